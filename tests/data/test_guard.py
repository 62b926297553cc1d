"""A video that hangs or crashes its decoder costs itself alone, in the real loader."""

import ctypes
import errno
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vidgn.data import dataset, guard
from vidgn.data.batches import ClipBatch, ViewBatch
from vidgn.data.board import Board, VideoLoader, WorkerDied
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset, ViewDataset
from vidgn.data.guard import Guard, ReaderKilled
from vidgn.data.manifest import Manifest
from vidgn.data.quarantine import Quarantine, TooManyBadVideos
from vidgn.data.retry import retried
from vidgn.data.sampler import EpochSampler
from vidgn.data.transforms import CropSpec
from vidgn.data.video import VideoDecodeError


class Faulty:
    """A reader of gray pictures; the name of the file says what goes wrong."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __len__(self) -> int:
        return 8

    def frames(self, indices):
        name = Path(self.path).name
        if name.startswith("hang"):
            ctypes.PyDLL(None).sleep(1000)  # for ever, holding the interpreter lock
        if name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if name.startswith("memory"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("cut"):
            raise VideoDecodeError(self.path, "truncated")
        if name.startswith("worker"):
            os.kill(os.getppid(), signal.SIGKILL)  # the helper kills the worker
            time.sleep(0.2)
        for index in sorted(set(map(int, indices))):
            yield index, np.full((8, 8, 3), 10 * int(name[-1]) + index, np.uint8)

    def __enter__(self):
        return self

    def __exit__(self, *args: object) -> None: ...


@pytest.fixture(autouse=True)
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "open_video", lambda path, *, backend: Faulty(path))


def manifest(root: Path, names: list[str]) -> Manifest:
    return Manifest.from_rows([(name, i % 2) for i, name in enumerate(names)], root=root, classes=["x", "y"])


def clips(root: Path, names: list[str], *, share: float | None = None, **options) -> ClipDataset:
    quarantine = None
    if share is not None:
        quarantine = Quarantine(root / "ledger.jsonl", num_videos=len(names), max_share=share)
    return ClipDataset(
        manifest(root, names), clip=ClipSpec(2, 4), crop=CropSpec(4), seed=0, flip=False,
        stream=options.pop("stream", "train"), quarantine=quarantine, **options,
    )  # fmt: skip


def load(data: ClipDataset, workers: int = 2) -> list[ClipBatch]:
    sampler = EpochSampler(len(data), batch=2, seed=0, shuffle=False)
    options = {"num_workers": workers, "timeout": 60 if workers else 0}
    return list(DataLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, **options))


def test_a_decoder_that_hangs_costs_one_video(tmp_path):
    data = clips(tmp_path, ["ok0", "hang1", "ok2", "ok3", "ok4", "ok5"], share=0.5, deadline_seconds=0.5)
    began = time.monotonic()
    batches = load(data)
    assert time.monotonic() - began < 30
    videos = torch.cat([batch.videos for batch in batches]).tolist()
    assert [videos[i] for i in (0, 2, 3, 4, 5)] == [0, 2, 3, 4, 5]
    assert videos[1] != 1
    assert torch.cat([batch.labels for batch in batches]).tolist()[1] == videos[1] % 2
    (row,) = Quarantine(tmp_path / "ledger.jsonl", num_videos=6).rows()
    assert row.video == "hang1"
    assert row.error == "decoding took longer than the deadline of 0.5 s; its process was killed"
    assert row.seconds >= 0.5


def test_the_substitute_is_a_function_of_seed_epoch_and_video(tmp_path):
    names = ["ok0", "crash1", "ok2", "cut3", "ok4", "ok5"]
    one = [batch.videos.tolist() for batch in load(clips(tmp_path, names, share=0.5), workers=1)]
    os.remove(tmp_path / "ledger.jsonl")
    two = [batch.videos.tolist() for batch in load(clips(tmp_path, names, share=0.5), workers=2)]
    again = [batch.videos.tolist() for batch in load(clips(tmp_path, names, share=0.5), workers=2)]  # known by now
    assert one == two == again
    rows = {row.video: row.error for row in Quarantine(tmp_path / "ledger.jsonl", num_videos=6).rows()}
    assert rows == {"crash1": "it crashed the decoder (signal 11, SIGSEGV)", "cut3": "truncated"}


def test_the_helper_delivers_what_the_main_process_reads(tmp_path):
    names = ["ok0", "ok1", "ok2"]
    for ours, theirs in zip(load(clips(tmp_path, names), 0), load(clips(tmp_path, names), 1), strict=True):
        assert torch.equal(ours.clips, theirs.clips)
    data = ViewDataset(manifest(tmp_path, names), clip=ClipSpec(2, 4), crop=CropSpec(4), num_clips=2)
    (batch,) = DataLoader(data, batch_size=3, collate_fn=ViewBatch.collate, num_workers=1)
    for item, index in zip(batch.items, range(3), strict=True):
        assert torch.equal(item.frames, data[index].frames)
        assert torch.equal(item.index, data[index].index)
        assert item.boxes == data[index].boxes


def test_too_many_bad_videos_end_the_run(tmp_path):
    with pytest.raises(TooManyBadVideos, match=r"1 of 3 training videos .*\n  cut1: truncated"):
        load(clips(tmp_path, ["ok0", "cut1", "ok2"], share=0.01), workers=1)


def test_only_bad_videos_end_the_run(tmp_path):
    with pytest.raises(VideoDecodeError, match="it and the 32 videos drawn for it are bad"):
        clips(tmp_path, ["cut0", "cut1"], share=1.0)[0, 0]


def test_validation_replaces_nothing(tmp_path):
    with pytest.raises(VideoDecodeError, match="truncated"):
        clips(tmp_path, ["cut0", "ok1"], share=1.0, stream="val")[0, 0]


def test_a_killed_reader_is_an_error_that_names_the_video(tmp_path):
    with pytest.raises(ReaderKilled, match=r"memory1: the process that read it was killed \(signal 9, SIGKILL\)"):
        load(clips(tmp_path, ["ok0", "memory1"], share=1.0), workers=1)


def test_a_killed_worker_is_an_error_that_names_the_video(tmp_path):
    data = clips(tmp_path, ["ok0", "worker1", "ok2", "ok3"])
    sampler = EpochSampler(4, batch=1, seed=0, shuffle=False)
    loader = VideoLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=1, timeout=30)
    with pytest.raises(WorkerDied, match=r"worker \d+ was killed by signal 9 while it read .*worker1"):
        list(loader)


def test_a_loader_without_trouble_is_a_plain_loader(tmp_path):
    data = clips(tmp_path, ["ok0", "ok1"])
    sampler = EpochSampler(2, batch=1, seed=0, shuffle=False)
    loader = VideoLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=1)
    assert [batch.videos.tolist() for batch in loader] == [[0], [1]]
    assert len(loader) == 2


def test_an_error_of_the_data_set_stays_what_it_is(tmp_path):
    sampler = EpochSampler(1, batch=1, seed=0, shuffle=False)
    loader = VideoLoader(clips(tmp_path, ["cut1"]), batch_sampler=sampler, num_workers=1)
    with pytest.raises(VideoDecodeError, match="truncated"):
        list(loader)


def test_nobody_reads_on_an_empty_board():
    board = Board()
    board.note("x")  # not in a worker
    assert board.reading(os.getpid()) is None


def test_in_testing_a_hang_is_a_failed_video(tmp_path):
    data = ViewDataset(
        manifest(tmp_path, ["ok0", "hang1", "ok2"]), clip=ClipSpec(2, 4), crop=CropSpec(4), num_clips=2,
        deadline_seconds=0.5,
    )  # fmt: skip
    (batch,) = DataLoader(data, batch_size=3, collate_fn=ViewBatch.collate, num_workers=1, timeout=60)
    assert [error is None for error in batch.errors] == [True, False, True]
    assert re.search("hang1: decoding took longer than the deadline", str(batch.errors[1]))


def test_a_strict_test_stops_at_a_bad_video(tmp_path):
    data = ViewDataset(manifest(tmp_path, ["cut0"]), clip=ClipSpec(2, 4), crop=CropSpec(4), strict=True)
    with pytest.raises(VideoDecodeError, match="cut0: truncated"):
        data[0]


def test_a_deadline_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match=r"deadline_seconds \(0\) must be positive; use 30, or None"):
        clips(tmp_path, ["ok0"], deadline_seconds=0)


def test_a_stalled_disk_is_no_bad_video(monkeypatch):
    class Stalled:
        def __init__(self, read: object) -> None: ...

        def call(self, *args: object, seconds: float) -> None:
            raise guard.HelperTimeout(seconds, True)

    monkeypatch.setattr(guard, "Helper", Stalled)
    monkeypatch.setattr(guard, "get_worker_info", lambda: True)
    with pytest.raises(TimeoutError, match=r"waits for the disk or the network: 'a\.mp4'") as caught:
        Guard(lambda path: ([], None), deadline_seconds=2)("a.mp4")
    assert caught.value.errno == errno.ETIMEDOUT


def test_network_errors_are_tried_again(monkeypatch):
    errors = [OSError(errno.EIO, "io")] * 2
    monkeypatch.setattr(guard, "retried", lambda read: retried(read, pause=lambda seconds: None))

    def read(path: str):
        if errors:
            raise errors.pop()
        return [], path

    assert Guard(read, deadline_seconds=None)("a.mp4") == ([], "a.mp4")
