"""Files and names that nobody should trust, through the real loader: read rightly or refused, and nothing else opened.

Every script, playlist and URL-like name points at videos in a folder of their own, which inotify watches.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.data import transforms
from vidgn.data.batches import ClipBatch, ViewBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.faults.quarantine import Quarantine
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.transforms import CropSpec
from vidgn.data.views import ViewDataset

from ..conftest import plain_decode, write_video

CLIP = ClipSpec(4, 8)
CROP = CropSpec(14)
_IN_OPEN, _IN_ACCESS = 0x20, 0x1  # sys/inotify.h

SCRIPTS = {
    "concat.mp4": "ffconcat version 1.0\nfile {other}\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n",
    "hls_url.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{other}\n#EXT-X-ENDLIST\n",
    "list.m3u8": "#EXTM3U\n#EXTINF:10,\n{other}\n",
    "dash.mpd": '<?xml version="1.0"?><MPD><Period><BaseURL>{other}</BaseURL></Period></MPD>',
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "smil.mp4": '<smil><body><video src="{other}"/></body></smil>',
}
URLS = ("http://localhost:9/v.mp4", "file:{other}", "concat:{other}|{other}", "subfile,,start,0,end,0,,:{other}",
        "pipe:0", "fd:0", "crypto:{other}", "data:video/mp4;base64,AAAA", "async:{other}", "cache:{other}")  # fmt: skip
NAMES = ("юникод 动作 😀.mp4", "it's \"so\", ok.mp4", "new\nline.mp4", "-dash.mp4", "%03d.mp4", "a  b\t.mp4",
         "http:", "concat:a.mp4|b.mp4", "pipe:0.mp4", "subfile,,start,0,end,0,,:v.mp4")  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hostile things, and one readable video under many names."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "others").mkdir()
    other = root / "others" / "secret.mp4"
    write_video(other, frames=12)
    write_video(root / "plain.mp4", frames=12)
    for name in NAMES:
        os.link(root / "plain.mp4", root / name)
    for name, text in SCRIPTS.items():
        (root / name).write_text(text.format(other=other) * 3)
    os.mkfifo(root / "fifo.mp4")
    (root / "device.mp4").symlink_to("/dev/zero")
    (root / "folder.mp4").mkdir()
    (root / "loop.mp4").symlink_to("loop.mp4")
    (root / "dangling.mp4").symlink_to("nowhere.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(root / "s.mp4"))
    write_black(root / "huge.mp4", side=8192)
    write_video(root / "two_hours.mp4", frames=720, width=32, height=32, times=lambda i: 10_000 * i, gop=60)
    write_video(root / "far_apart.mkv", frames=2, times=lambda i: 7_200_000 * i)
    claimed = bytearray((root / "plain.mp4").read_bytes())
    for box in (b"mvhd", b"tkhd", b"mdhd"):  # durations of years (ISO/IEC 14496-12, 8.2.2, 8.3.2, 8.4.2; version 0)
        at = claimed.index(box) + (24 if box == b"tkhd" else 20)
        claimed[at : at + 4] = struct.pack(">I", 0x7FFFFFFF)
    (root / "claims_years.mp4").write_bytes(claimed)
    return root


def write_black(path: Path, *, side: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "gray"
        stream.options = {"preset": "ultrafast"}
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((side, side), np.uint8), format="gray")))
        container.mux(stream.encode())


@pytest.fixture
def opened(root: Path) -> Iterator[Callable[[], int]]:
    """Return a function that counts how often a file in `others/` was opened or read since it was asked last."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0
    assert libc.inotify_add_watch(handle, os.fsencode(root / "others"), _IN_OPEN | _IN_ACCESS) >= 0

    def count() -> int:
        try:
            return len(os.read(handle, 1 << 16))
        except BlockingIOError:
            return 0

    yield count
    os.close(handle)


def manifest(root: Path, names: list[str]) -> Manifest:
    return Manifest.from_rows([(name, 0) for name in names], root=root, classes=["x"])


def view(root: Path, names: list[str]) -> dict[str, object]:
    """Return the frames of each video as the test reads them, or why it could not."""
    data = ViewDataset(manifest(root, names), clip=CLIP, crop=CROP, num_clips=1, deadline_seconds=20)
    batches = VideoLoader(data, batch_size=2, collate_fn=ViewBatch.collate, num_workers=2, timeout=60)
    items = [item for batch in batches for item in batch.items]
    assert [item.video for item in items] == list(range(len(names)))
    return {name: item.error or item.frames for name, item in zip(names, items, strict=True)}


def test_hostile_names_are_names_and_urls_are_missing_files(root, opened):
    frames = plain_decode(root / "plain.mp4")
    expected = transforms.resize(np.stack(frames[:8:2]), size=(16, 21))
    urls = [url.format(other=root / "others" / "secret.mp4") for url in URLS]
    found = view(root, ["plain.mp4", *NAMES, *urls])
    for name in ("plain.mp4", *NAMES):
        assert not isinstance(found[name], str), (name, found[name])
        assert np.array_equal(found[name], expected), name
    missing = ("No such file or directory", "Not a directory")  # `http:` is the name of a file
    assert [name for name in urls if not any(text in str(found[name]) for text in missing)] == []
    assert opened() == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_nothing_else(root, opened, name):
    data = ViewDataset(manifest(root, [name]), clip=CLIP, crop=CROP, num_clips=1, deadline_seconds=20)
    assert "not a video: it begins with the text" in str(data[0].error)
    assert opened() == 0


def test_the_watch_sees_what_is_opened(root, opened):
    (root / "others" / "secret.mp4").read_bytes()
    assert opened() > 0


REFUSED = {
    "fifo.mp4": "a pipe (FIFO), not a regular file",
    "device.mp4": "a character device, not a regular file",
    "s.mp4": "a socket, not a regular file",
    "huge.mp4": "pictures of 8192x8192 px exceed max_pixels (16777216)",
    "folder.mp4": "Is a directory",
    "loop.mp4": "symbolic links",
    "dangling.mp4": "No such file or directory",
}


def test_what_is_no_video_is_refused_with_its_reason(root):
    found = view(root, [*REFUSED, "plain.mp4"])
    assert {name: text for name, text in REFUSED.items() if text not in str(found[name])} == {}
    assert not isinstance(found["plain.mp4"], str)  # and the next one is read


def test_durations_of_hours_are_only_numbers(root):
    found = view(root, ["two_hours.mp4", "far_apart.mkv", "claims_years.mp4", "plain.mp4"])
    assert {name: tuple(frames.shape) for name, frames in found.items()} == {
        "two_hours.mp4": (3, 4, 16, 16),
        "far_apart.mkv": (3, 1, 16, 21),  # every second of two frames, looped
        "claims_years.mp4": (3, 4, 16, 21),
        "plain.mp4": (3, 4, 16, 21),
    }
    assert np.array_equal(found["claims_years.mp4"], found["plain.mp4"])


@pytest.mark.slow
def test_in_training_what_is_no_video_is_replaced_and_a_missing_file_ends_the_run(root, tmp_path):
    def read(names: list[str]) -> list[int]:
        data = ClipDataset(
            manifest(root, names), clip=CLIP, crop=CROP, seed=0, flip=False, stream="train", deadline_seconds=20,
            quarantine=Quarantine(tmp_path / "ledger.jsonl", num_videos=len(names), max_share=1),
        )  # fmt: skip
        sampler = EpochSampler(len(data), batch=4, seed=0, shuffle=False)
        loader = VideoLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=2, timeout=60)
        return [video for batch in loader for video in batch.videos.tolist()]

    bad = ["fifo.mp4", "device.mp4", "s.mp4", "huge.mp4", *SCRIPTS]
    good = ["plain.mp4", *NAMES, "two_hours.mp4", "far_apart.mkv", "claims_years.mp4"]
    videos = read([*bad, *good])
    assert min(videos) >= len(bad)
    assert videos[len(bad) :] == list(range(len(bad), len(bad) + len(good)))
    rows = Quarantine(tmp_path / "ledger.jsonl", num_videos=1).rows()
    assert {row.video for row in rows} == set(bad)
    for name in ("folder.mp4", "loop.mp4", "dangling.mp4"):
        with pytest.raises(OSError, match=name):
            read([name, "plain.mp4"])
