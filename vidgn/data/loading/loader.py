"""Loaders that say which video a worker was reading when it died, how long the loop waits, and where they are."""

import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from vidgn.data.faults.child_process import held_signals, run_seconds
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.loading.workers import WorkerDied, explain_failure, kill_at_exit, plain, require_answer

GRACE = 3.0  # seconds beyond the deadline of a video, in which its worker reports it
_POLL = 1.5  # seconds


class VideoLoader(DataLoader[Any]):
    """A `DataLoader` whose errors name the video, by the `board` of its data set, and which measures itself.

    With `timeout=patience(deadline)` a worker that does not answer for so long hangs. A long batch is not a hang: the
    time counts from the moment at which a worker begins a video. Nor is a process that was stopped (SIGSTOP): only
    time in which this one could run counts.

    Attributes:
        waited_seconds: in `next`, in all.
        delivered: batches, in all.
    """

    waited_seconds = 0.0
    delivered = 0

    def __iter__(self) -> Any:
        """Yield batches; workers begin to read now.

        Raises:
            WorkerDied: A worker was killed, crashed, or does not answer.
            Exception: Of a worker; vidgn's own without its traceback.
        """
        _give_up_after(self.timeout, getattr(self, "_iterator", None))  # workers take their time to begin an epoch
        with held_signals():
            self._batches: Any = super().__iter__()
        if self.num_workers:
            kill_at_exit()
        _give_up_after(min(self.timeout, _POLL), self._batches)
        return self._watched(self._batches)

    def explain(self, err: BaseException) -> WorkerDied | None:
        """Turn what torch says of a dead worker, anywhere in the main process, into what it was reading."""
        workers = getattr(getattr(self, "_batches", None), "_workers", [])
        return explain_failure(err, workers, getattr(self.dataset, "board", None))

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            began = time.monotonic()
            try:
                batch = self._next(batches)
            except StopIteration:
                return
            self.waited_seconds += time.monotonic() - began
            self.delivered += 1
            yield batch

    def _next(self, batches: Any) -> Any:
        began, waited = time.monotonic(), 0.0
        while True:
            asked = time.monotonic()
            try:
                return next(batches)
            except Exception as err:
                if not (type(err) is RuntimeError and "DataLoader timed out" in str(err)):
                    told = self.explain(err) or plain(err)
                    if told is err:
                        raise
                    raise told from err
            waited += run_seconds(time.monotonic() - asked, asked=min(self.timeout, _POLL))
            if waited < self.timeout:
                continue
            board = getattr(self.dataset, "board", None)
            require_answer(batches._workers, board, seconds=self.timeout, since=began)


class TrainLoader(VideoLoader):
    """A loader that knows its place in the epoch, in videos of all ranks, and can begin at one.

    Lightning may call `iter` only to see whether that works, so a place is used up by the first batch, not by `iter`.
    """

    batch_sampler: EpochSampler

    def __iter__(self) -> Any:
        """Yield batches from the loaded place on, counting them."""
        epoch, start = getattr(self, "_place", (-1, 0))
        self._begin = self.batch_sampler.start = start if epoch == self.batch_sampler.epoch else 0
        self._yielded = 0
        batches = super().__iter__()  # workers begin to read now
        self.batch_sampler.start = 0  # who copies the sampler gets whole epochs
        return self._count(batches)

    def _count(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self._place = (-1, 0)
            self._yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the place after the batches that were yielded, not those that were read ahead."""
        begin, yielded = getattr(self, "_begin", 0), getattr(self, "_yielded", 0)
        return {**self.batch_sampler.state_dict(), "start": begin + yielded * self.batch_sampler.global_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration at a place.

        Raises:
            ValueError: the order of videos would be another.
        """
        start = min(state["start"], self.batch_sampler.num_items)
        self.batch_sampler.load_state_dict({**state, "start": start})
        self._place = (state["epoch"], start)


def patience(deadline_seconds: float | None, *, num_workers: int) -> float:
    """Return the `timeout` of a loader whose data set has this deadline; 0: it waits for ever."""
    return deadline_seconds + GRACE if deadline_seconds is not None and num_workers else 0.0


def _give_up_after(seconds: float, batches: Any) -> None:
    """Let an iterator of torch say after `seconds` that nothing came; it can be asked again."""
    if hasattr(batches, "_timeout"):
        batches._timeout = seconds
