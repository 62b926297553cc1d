"""The loader of training, which knows its place and can begin at one."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from vidgn.data.batches import ClipSample
from vidgn.data.sampler import EpochSampler


class TrainLoader(DataLoader[ClipSample]):
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
