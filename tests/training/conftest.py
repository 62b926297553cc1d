"""What the tests of training share."""

from pathlib import Path

import pytest

from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video


@pytest.fixture(scope="session")
def own_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six short videos, one folder each."""
    folder = tmp_path_factory.mktemp("own")
    for number in range(6):
        for label in ("move_up", "move_down"):
            (folder / label).mkdir(exist_ok=True)
            frames = draw_video(label, spec=MotionsSpec(num_frames=12, side=40), key=(0, number))
            write_video(folder / label / f"{number}.mp4", frames)
    return folder
