"""Videos in a Google Cloud Storage, of this machine."""

from pathlib import Path

import numpy as np
import pytest

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.storage import remote, retry
from vidgn.data.storage.remote import RemoteError, Url
from vidgn.data.video import open_video

from ..conftest import plain_decode, write_video
from ..gs_server import gs

pytest.importorskip("fsspec")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiohttp's sessions end with the process


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gs") / "v.mp4"
    noisy = {"crf": "4", "bf": "0"}
    write_video(path, frames=96, width=256, height=192, options=noisy, container_options={"movflags": "+faststart"})
    return path


@pytest.mark.slow
def test_a_folder_is_listed_and_of_a_video_only_the_clip_is_read(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK", 4096)
    data = video.read_bytes()
    names = ("train/run/a b#1 ä.mp4", "train/jump/b.mp4", "val/run/c.mp4", "val/jump/d.mp4")
    with gs({f"k/{name}": data for name in names}, monkeypatch) as bucket:
        manifest = Manifest.from_folder("gs://bucket/k", split="train")
        assert [manifest.video_id(i) for i in range(2)] == ["train/jump/b.mp4", "train/run/a b#1 ä.mp4"]
        with open_video(manifest.path(1)) as reader:
            frames = [frame.copy() for _, frame in reader.frames(range(60, 68))]
        np.testing.assert_array_equal(np.stack(frames), np.stack(plain_decode(video)[60:68]))
        assert sum(last + 1 - first for first, last in bucket.ranges) < 0.3 * len(data)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [1, 7])  # gcsfs asks six times, and is asked again
def test_a_busy_store_is_asked_again(faults: int, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    with gs({"v.mp4": video.read_bytes()}, monkeypatch) as bucket:
        bucket.faults = faults
        with open_video(Url("gs://bucket/v.mp4")) as reader:
            assert len(reader) == 96
        assert bucket.faults == 0


@pytest.mark.slow
def test_a_store_that_stays_busy_is_named_and_no_bad_video(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    with gs({"v.mp4": video.read_bytes()}, monkeypatch) as bucket:
        bucket.faults = 1000
        with pytest.raises(
            RemoteError, match=r"gs://bucket/v\.mp4: bytes 0 to 65536 failed, tried 4 times: HttpError: .*503"
        ):
            open_video(Url("gs://bucket/v.mp4"))
        assert bucket.faults == 1000 - 4 * 6


def test_a_missing_video_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with gs({"v.mp4": b""}, monkeypatch), pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        open_video(Url("gs://bucket/gone.mp4"))
