"""No camera is needed: a file stands in for the device, read in the same way."""

import numpy as np
import pytest

from vidgn.data.readers import camera
from vidgn.data.readers.camera import Camera
from vidgn.data.synthetic.motions import write_video


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """A folder in place of /dev, with one device of 30 frames at 10 per second, numbered by their brightness."""
    monkeypatch.setattr(camera, "DEVICE", str(tmp_path / "video{number}"))
    monkeypatch.setattr(camera, "FORMAT", None)
    frames = np.broadcast_to(8 * np.arange(30, dtype=np.uint8)[:, None, None, None], (30, 48, 64, 3))
    write_video(tmp_path / "a.mp4", frames, fps=10)
    (tmp_path / "a.mp4").rename(tmp_path / "video0")
    return tmp_path


@pytest.mark.slow
def test_frames_come_in_order_with_their_seconds(devices):
    with Camera(0) as device:
        assert device.fps == 10.0
        found = list(device.frames())
    assert [round(moment, 3) for moment, _ in found] == [round(0.1 * number, 3) for number in range(30)]
    assert all(frame.shape == (48, 64, 3) for _, frame in found)
    assert [abs(float(frame.mean()) - 8 * number) < 4 for number, (_, frame) in enumerate(found)] == [True] * 30


@pytest.mark.slow
def test_a_camera_that_is_not_there_is_told_with_those_that_are(devices):
    with pytest.raises(FileNotFoundError, match=r"--camera 3 needs .*video3, which is not there; there are: 0\."):
        Camera(3)
    (devices / "video0").unlink()
    with pytest.raises(FileNotFoundError, match="no camera is connected to this machine"):
        Camera(0)


def test_what_gives_no_pictures_is_told(devices):
    (devices / "video1").write_bytes(b"no camera" * 100)
    with pytest.raises(OSError, match=r"--camera 1: .*video1 gives no pictures \(.*\); close what else uses it"):
        Camera(1)


@pytest.mark.slow
def test_a_device_with_sound_only_is_told(devices, real_videos):
    (devices / "video2").write_bytes((real_videos / "broken" / "audio_only.wav").read_bytes())
    with pytest.raises(OSError, match="gives no pictures; try another number"):
        Camera(2)


@pytest.mark.slow
def test_a_device_that_may_not_be_read_is_told(devices, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(camera.av, "open", refuse)
    with pytest.raises(PermissionError, match=r"may not be read; join its group"):
        Camera(0)
