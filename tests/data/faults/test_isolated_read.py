"""A video that hangs or crashes its decoder costs itself alone, in the real loader and without one."""

import errno
import os
import re
import time

import pytest
import torch
from torch.utils.data import DataLoader

from vidgn.data.batches import ClipBatch, ViewBatch
from vidgn.data.faults import isolated_read
from vidgn.data.faults.isolated_read import IsolatedRead, ReaderKilled
from vidgn.data.faults.quarantine import Quarantine, TooManyBadVideos
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.retry import retried

from ..faulty import clips, faulty, views  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("faulty")


def load(data, workers: int = 2, *, epoch: int = 0) -> list[ClipBatch]:
    sampler = EpochSampler(len(data), batch=2, seed=0, shuffle=False)
    sampler.set_epoch(epoch)
    options = {"num_workers": workers, "timeout": 60 if workers else 0}
    return list(VideoLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, **options))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_decoder_that_hangs_costs_one_video(tmp_path, workers):
    data = clips(tmp_path, ["ok0", "hang1", "ok2", "ok3", "ok4", "ok5"], share=0.5, deadline_seconds=3)
    began = time.monotonic()
    batches = load(data, workers)
    assert time.monotonic() - began < 200  # of 1000
    videos = torch.cat([batch.videos for batch in batches]).tolist()
    assert [videos[i] for i in (0, 2, 3, 4, 5)] == [0, 2, 3, 4, 5]
    assert videos[1] != 1
    assert torch.cat([batch.labels for batch in batches]).tolist()[1] == videos[1] % 2
    (row,) = Quarantine(tmp_path / "ledger.jsonl", num_videos=6).rows()
    assert (row.video, row.split, row.row, row.epoch) == ("hang1", "train", 1, 0)
    assert row.error == "decoding took longer than the deadline of 3 s; its process was killed"
    assert row.seconds >= 3


@pytest.mark.slow
def test_the_substitute_is_a_function_of_seed_epoch_and_video(tmp_path):
    names = ["ok0", "crash1", "ok2", "cut3", "ok4", "ok5"]
    one = [batch.videos.tolist() for batch in load(clips(tmp_path, names, share=0.5), workers=1)]
    os.remove(tmp_path / "ledger.jsonl")
    two = [batch.videos.tolist() for batch in load(clips(tmp_path, names, share=0.5), workers=2)]
    again = [batch.videos.tolist() for batch in load(clips(tmp_path, names, share=0.5), workers=2)]  # known by now
    assert one == two == again
    rows = {row.video: row.error for row in Quarantine(tmp_path / "ledger.jsonl", num_videos=6).rows()}
    assert rows == {"crash1": "it crashed the decoder (signal 11, SIGSEGV)", "cut3": "truncated"}


def test_an_epoch_that_is_run_again_knows_no_more_than_the_first_time(tmp_path):
    """`spot3` is damaged in one place: its clips begin at 2, 2, 2, 4, 0 and 2, and only that of epoch 4 is damaged."""
    data = clips(tmp_path, ["ok0", "ok1", "ok2", "spot3"], share=1)
    first = [data[epoch, 3].video for epoch in range(6)]
    assert first[:4] == [3, 3, 3, 3]
    assert 3 not in first[4:]
    (row,) = Quarantine(tmp_path / "ledger.jsonl", num_videos=4).rows()
    assert (row.video, row.epoch) == ("spot3", 4)
    resumed = clips(tmp_path, ["ok0", "ok1", "ok2", "spot3"], share=1)
    assert [resumed[epoch, 3].video for epoch in range(6)] == first


def test_the_helper_delivers_what_is_read_in_place(tmp_path):
    names = ["ok0", "ok1", "ok2"]
    plain = load(clips(tmp_path, names, deadline_seconds=None), 0)
    for ours, theirs in zip(plain, load(clips(tmp_path, names), 0), strict=True):
        assert torch.equal(ours.clips, theirs.clips)
    for ours, theirs in zip(plain, load(clips(tmp_path, names), 1), strict=True):
        assert torch.equal(ours.clips, theirs.clips)
    data = views(tmp_path, names, deadline_seconds=None)
    (batch,) = DataLoader(views(tmp_path, names), batch_size=3, collate_fn=ViewBatch.collate, num_workers=1)
    for item, index in zip(batch.items, range(3), strict=True):
        assert torch.equal(item.frames, data[index].frames)
        assert torch.equal(item.index, data[index].index)
        assert item.boxes == data[index].boxes


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_videos_end_the_run(tmp_path, workers):
    with pytest.raises(TooManyBadVideos, match=r"^1 of 3 training videos .*\n  cut1: truncated$"):
        load(clips(tmp_path, ["ok0", "cut1", "ok2"], share=0.01), workers)


def test_only_bad_videos_end_the_run(tmp_path):
    with pytest.raises(VideoDecodeError, match="it and the 32 videos drawn for it are bad"):
        clips(tmp_path, ["cut0", "cut1"], share=1.0)[0, 0]


@pytest.mark.slow
def test_validation_replaces_nothing_and_says_what_failed(tmp_path):
    batches = load(clips(tmp_path, ["cut0", "ok1", "ok2", "cut3"], share=0.0, stream="val"), 1)
    assert [batch.videos.tolist() for batch in batches] == [[0, 1], [2, 3]]
    assert [batch.failed for batch in batches] == [(0,), (1,)]
    assert int(batches[0].clips[0].max()) == 0
    assert int(batches[0].clips[1].min()) >= 10
    rows = Quarantine(tmp_path / "ledger.jsonl", num_videos=4).rows()
    assert sorted((row.video, row.split, row.row) for row in rows) == [("cut0", "val", 0), ("cut3", "val", 3)]


@pytest.mark.parametrize("stream", ["train", "val"])
def test_without_a_ledger_a_bad_video_is_an_error(tmp_path, stream):
    with pytest.raises(VideoDecodeError, match="cut0: truncated"):
        clips(tmp_path, ["cut0", "ok1"], stream=stream)[0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_reader_is_an_error_that_names_the_video(tmp_path, workers):
    with pytest.raises(ReaderKilled, match=r"memory1: the process that read it was killed \(signal 9, SIGKILL\)"):
        load(clips(tmp_path, ["ok0", "memory1"], share=1.0), workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_in_testing_a_hang_is_a_failed_video(tmp_path, workers):
    data = views(tmp_path, ["ok0", "hang1", "ok2"], deadline_seconds=3)
    (batch,) = DataLoader(data, batch_size=3, collate_fn=ViewBatch.collate, num_workers=workers)
    assert [error is None for error in batch.errors] == [True, False, True]
    assert re.search("hang1: decoding took longer than the deadline", str(batch.errors[1]))


def test_a_strict_test_stops_at_a_bad_video(tmp_path):
    with pytest.raises(VideoDecodeError, match="cut0: truncated"):
        views(tmp_path, ["cut0"], strict=True)[0]


def test_a_deadline_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match=r"deadline_seconds \(0\) must be positive; use 30, or null"):
        clips(tmp_path, ["ok0"], deadline_seconds=0)


def late(*, disk: bool, failures: int = 0):
    """Return the class of a helper that does not answer in time."""

    class Late:
        def __init__(self, read, *, prepare):
            self.guard = read.__self__

        def call(self, *args: object, seconds: float) -> None:
            for _ in range(failures):
                self.guard._count_failure()
            raise isolated_read.HelperTimeout(seconds, disk)

    return Late


@pytest.mark.parametrize(
    ("disk", "failures", "text"),
    [
        (True, 0, r"longer than 2 s, waiting for the disk or the network: 'a\.mp4'"),
        (False, 2, r"longer than 2 s, with 2 input/output errors: 'a\.mp4'"),
    ],
)
def test_a_stalled_disk_is_no_bad_video(monkeypatch, disk, failures, text):
    monkeypatch.setattr(isolated_read, "Helper", late(disk=disk, failures=failures))
    with pytest.raises(TimeoutError, match=text) as caught:
        IsolatedRead(lambda path: ([], None), deadline_seconds=2)("a.mp4")
    assert caught.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("seconds", [None, 20])
def test_network_errors_are_tried_again(monkeypatch, seconds):
    errors = [OSError(errno.EIO, "io")] * 2
    monkeypatch.setattr(
        isolated_read, "retried", lambda read, **options: retried(read, **options, pause=lambda seconds: None)
    )

    def read(path: str):
        if errors:
            raise errors.pop()
        return [], path

    assert IsolatedRead(read, deadline_seconds=seconds)("a.mp4") == ([], "a.mp4")
    assert len(errors) == (0 if seconds is None else 2)  # the helper has a copy
