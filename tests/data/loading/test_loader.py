"""What becomes of a worker is told with the name of the video it was reading; the loader knows how long it waits."""

import os
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader

from vidgn.data.batches import ClipBatch
from vidgn.data.loading.loader import VideoLoader, patience
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.loading.workers import WorkerDied
from vidgn.data.readers.types import VideoDecodeError

from ..faulty import clips, faulty  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("faulty")


def read(ours: VideoLoader) -> list:
    """Read all, and say it as a run does where torch's signal handler tells of a death outside of `next`."""
    try:
        return list(ours)
    except RuntimeError as err:
        raise ours.explain(err) or err from err


def loader(data, *, workers: int = 1, timeout: float = 30, batch: int = 1, **options) -> VideoLoader:
    sampler = EpochSampler(len(data), batch=batch, seed=0, shuffle=False)
    return VideoLoader(
        data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=workers,
        timeout=timeout if workers else 0, **options,
    )  # fmt: skip


# KILL: the system's out-of-memory killer. SEGV: a crash. BUS: no room in /dev/shm.
@pytest.mark.parametrize(
    ("number", "advice"),
    [(9, "signal 9 is most often lack of memory"), (11, "look at that file"), (7, "/dev/shm is full: use fewer")],
)
def test_a_killed_worker_is_an_error_that_names_the_video(tmp_path, number, advice):
    data = clips(tmp_path, ["ok0", f"worker{number}_1", "ok2", "ok3"])
    name = signal.Signals(number).name
    text = rf"^worker \d+ was killed by signal {number} \({name}\) while it read .*worker{number}_1; 1 workers; "
    with pytest.raises(WorkerDied, match=f"{text}.*{advice}"):
        read(loader(data))


@pytest.mark.slow
def test_a_worker_that_hangs_is_named_in_time(tmp_path):
    data = clips(tmp_path, ["ok0", "hang1"], deadline_seconds=None)  # nothing else would end it
    others = {child.pid for child in torch.multiprocessing.active_children()}
    began = time.monotonic()
    with pytest.raises(WorkerDied, match=r"no answer for 3 s: worker \d+ hangs while it read .*hang1; 1 workers"):
        list(loader(data, timeout=3))
    assert time.monotonic() - began < 200  # of 1000
    assert {child.pid for child in torch.multiprocessing.active_children()} <= others  # which this process waits for


@pytest.mark.slow
def test_a_long_batch_is_no_hang(tmp_path):
    names = [f"slow{number}" for number in range(14)]  # seven seconds together, half a second each
    assert [batch.videos.tolist() for batch in loader(clips(tmp_path, names), timeout=6, batch=14)] == [[*range(14)]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_without_trouble_is_a_plain_loader(tmp_path, workers):
    data = clips(tmp_path, ["ok0", "ok1"])
    ours = loader(data, workers=workers, persistent_workers=workers > 0)
    for _ in range(2):
        assert [batch.videos.tolist() for batch in ours] == [[0], [1]]
    assert len(ours) == 2
    assert ours.delivered == 4
    assert 0 < ours.waited_seconds < 60


@pytest.mark.slow
def test_an_error_of_the_data_set_stays_what_it_is(tmp_path):
    with pytest.raises(VideoDecodeError, match=rf"^{tmp_path}/cut1: truncated$"):
        list(loader(clips(tmp_path, ["cut1"])))


@pytest.mark.parametrize("workers", [1, 2])
def test_full_shared_memory_is_one_sentence_with_the_ways_out(tmp_path, monkeypatch, workers):
    def fail(self):
        name = f"</torch_{os.getpid()}_1>"
        raise RuntimeError(f"unable to allocate shared memory(shm) for file {name}: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    with pytest.raises(WorkerDied, match=r"^/dev/shm is full: use fewer workers .* --shm-size=8g.* \(28\)$"):
        list(loader(clips(tmp_path, ["ok0", "ok1"]), workers=workers))


@pytest.mark.slow
def test_batches_are_in_shared_memory_when_they_leave_a_worker(tmp_path):
    """In torch's own queue a lack of room would lose the batch, and the loop would wait for ever."""
    data = clips(tmp_path, ["ok0"])
    (alone,) = loader(data, workers=0)
    assert not alone.clips.is_shared()
    seen = []

    def collate(samples):
        batch = ClipBatch.collate(samples)
        return batch, batch.clips.is_shared()

    for batch, was_shared in VideoLoader(data, sampler=[(0, 0)], collate_fn=collate, num_workers=1):
        seen.append((torch.equal(batch.clips, alone.clips), was_shared))
    assert seen == [(True, True)]


def test_a_death_that_torch_tells_elsewhere_is_explained(tmp_path, monkeypatch):
    """Torch raises from a signal handler, wherever the main process is at that moment."""
    # It installs the handler once; a test before this one in the same process may have put another in its place.
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)
    ours = loader(clips(tmp_path, ["ok0", "ok1", "ok2", "ok3"]), persistent_workers=True)
    others = {child.pid for child in torch.multiprocessing.active_children()}
    batches = iter(ours)
    for _ in range(len(ours)):  # then the worker waits for work, and holds no lock that torch takes when it ends
        next(batches)
    (pid,) = {child.pid for child in torch.multiprocessing.active_children()} - others
    try:
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            sum(range(1000))
        raise AssertionError("torch did not notice")
    except RuntimeError as err:
        died = ours.explain(err)
    assert "was killed by signal 9 (SIGKILL) " in str(died)
    assert ours.explain(died) is None
    assert ours.explain(ValueError("something else")) is None


def test_a_deadline_leaves_a_worker_time_to_say_so():
    assert patience(30, num_workers=2) == 33
    assert patience(None, num_workers=2) == patience(30, num_workers=0) == 0
    assert isinstance(VideoLoader([1]), DataLoader)
