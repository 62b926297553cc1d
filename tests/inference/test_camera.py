import json

import numpy as np
import pytest

from vidgn.data.clips import ClipSpec
from vidgn.data.readers import camera
from vidgn.data.synthetic.motions import write_video
from vidgn.inference.camera import camera_windows
from vidgn.inference.model import open_model
from vidgn.inference.predict import timeline


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A file in place of /dev/video0: 60 frames at 25 per second."""
    monkeypatch.setattr(camera, "DEVICE", str(tmp_path / "video{number}"))
    monkeypatch.setattr(camera, "FORMAT", None)
    write_video(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8))
    return (tmp_path / "a.mp4").rename(tmp_path / "video0")


@pytest.mark.slow
def test_a_camera_has_the_scores_of_a_file_with_its_frames(vidgn, device, trained):
    """60 frames are three windows of 16 and a rest; the timeline of the same file is the oracle."""
    status, out, _ = vidgn("predict", "--camera", "0", "--ckpt", trained, "--json", "--top", "1", "--device", "cpu")
    assert status == 0
    told = [json.loads(line) for line in out.splitlines()]
    assert [item["start_seconds"] for item in told] == [0.0, 0.64, 1.28]
    model = open_model(trained, device="cpu")
    windows = [window for window in timeline(str(device), model) if window.start % 16 == 0]
    wanted = [max(window.scores) for window in windows[:3]]
    assert [item["top"][0]["score"] for item in told] == pytest.approx(wanted, abs=2e-6)


@pytest.mark.slow
def test_lines_are_for_people_and_the_time_ends_it(vidgn, device, trained):
    status, out, err = vidgn("predict", "--camera", "0", "--ckpt", trained, "--top", "2", "--seconds", "1")
    assert status == 0
    assert len(out.splitlines()) == 2  # windows that begin before second 1
    assert out.startswith("    0.0 s  ")
    assert "25 frames per second" in err


class Gaps:
    """A camera of 10 frames per second that drops those between 0.5 s and 2 s."""

    fps = 10.0

    def frames(self):
        for number in [*range(5), *range(20, 40)]:
            yield number / 10, np.full((48, 64, 3), number, np.uint8)


def test_a_window_never_spans_frames_that_were_dropped():
    found = list(camera_windows(Gaps(), clip=ClipSpec(4, 8), side=32))
    assert [(seen.start, seen.end) for seen in found] == [(2.0, 2.7), (2.8, 3.5)]
    assert found[0].clip.shape == (3, 4, 32, 32)
    assert found[0].clip[0, :, 0, 0].tolist() == [20, 22, 24, 26]


@pytest.mark.slow
def test_ctrl_c_is_an_ordinary_end(vidgn, device, trained, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("vidgn.inference.camera.camera_windows", stop)
    status, _, err = vidgn("predict", "--camera", "0", "--ckpt", trained)
    assert status == 0
    assert "stopped" in err
    status, _, err = vidgn("predict", "--camera", "0", "--ckpt", trained, "--top", "0")
    assert (status, err) == (2, "error: --top (0) must be at least 1 class.\n")
