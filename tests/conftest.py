"""What every test may use."""

import os
from pathlib import Path

import pytest

# Before torch is imported: two test processes with a thread for every core each would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder with `clips/`, `odd/` and `broken/`: real files nobody here wrote."""
    folder = os.environ.get("VIDGN_TEST_VIDEOS")
    if not folder:
        pytest.skip("VIDGN_TEST_VIDEOS is not set: tests on real video files are skipped")
    path = Path(folder)
    assert (path / "clips").is_dir(), f"VIDGN_TEST_VIDEOS={folder} has no folder clips/"
    return path
