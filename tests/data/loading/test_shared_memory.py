import errno
from types import SimpleNamespace

import pytest

from vidgn.data.loading import shared_memory
from vidgn.data.loading.shared_memory import require_room


@pytest.fixture
def free(monkeypatch):
    """64 MB, as a container has by default."""
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda folder: SimpleNamespace(free=64_000_000))


def test_what_does_not_fit_is_refused_with_the_ways_out(tmp_path, free):
    # Two loaders of 4 workers with 2 batches each and one in use: 18 batches of 4 MB.
    text = r"4 workers read ahead up to 72 MB of batches, but .* has 64 MB free; set data\.num_workers=3 or a smaller"
    with pytest.raises(OSError, match=text) as caught:
        require_room(4_000_000, num_workers=4, num_loaders=2, folder=tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert "docker run --shm-size=8g" in str(caught.value)


def test_a_batch_that_is_too_large_leaves_reading_in_the_main_process(tmp_path, free):
    with pytest.raises(OSError, match=r"set data\.num_workers=0 or a smaller batch"):
        require_room(60_000_000, num_workers=1, folder=tmp_path)


@pytest.mark.parametrize(
    ("batch_bytes", "options"),
    [
        (4_000_000, {"num_workers": 3, "num_loaders": 2}),  # 56 MB
        (4_000_000_000, {"num_workers": 0}),  # nothing is shared
    ],
)
def test_what_fits_passes(tmp_path, free, batch_bytes, options):
    assert require_room(batch_bytes, folder=tmp_path, **options) is None


def test_a_system_that_keeps_shared_memory_elsewhere_is_not_asked(tmp_path, free):
    assert require_room(10**12, num_workers=8, folder=tmp_path / "shm") is None
