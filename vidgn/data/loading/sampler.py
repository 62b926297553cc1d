"""Which videos come when: the order of an epoch, and each rank's share of it.

permutation(seed, epoch)     7 2 5 0 | 4 6 1 3 | 9 8          one order for the whole job
batch=2, world_size=2        rank 0 takes 7 5, 4 1            rank 1 takes 2 0, 6 3
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vidgn.data.loading.balance import balanced_videos

_STREAM = int.from_bytes(b"order", "big")  # keeps these numbers apart from other draws of the same seed


def epoch_order(num_items: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the permutation of an epoch, (num_items,): a function of (seed, epoch) on every machine.

    It sorts Philox's raw integers, whose stream NumPy guarantees ("Compatibility Guarantee" in the
    documentation of numpy.random.Philox); Generator.permutation has no such guarantee.
    """
    raw = np.random.Philox(key=np.array([seed, _STREAM], np.uint64), counter=[0, 0, epoch, 0])
    return np.argsort(raw.random_raw(num_items), kind="stable")


class EpochSampler(Sampler[list[tuple[int, ...]]]):
    """A batch sampler that yields lists of (epoch, index) and really reshuffles every epoch.

    Lightning calls `set_epoch` only where it finds a `.sampler` (lightning/fabric/utilities/data.py,
    _set_sampler_epoch): a batch sampler without that attribute has one order for ever, silently. Hence
    `.sampler` is the sampler itself.

    A step's global batch is `batch * world_size` neighbours of the order; ranks take every world_size-th of
    them, so the order is the same for any number of ranks.

    Args:
        num_items: Videos in the data set.
        batch: Videos per step and rank.
        seed: Of the order.
        shuffle: Without it the order is that of the data set.
        rank: This process, 0..world_size-1.
        world_size: Processes of the job.
        drop_last: Leave out the last, smaller batch of an epoch, unless it is the only one.
        balance: Class of each video (num_items,): every class comes equally often in an epoch, and the items are
            (epoch, index, turn); see `vidgn.data.loading.balance`. None: every video comes once.
        pairs: Neighbours of the order, two by two, go to one rank, whose `batch` must be even.

    Raises:
        ValueError: A number is out of range, `batch` is odd with `pairs`, or there are fewer videos than ranks.

    Attributes:
        epoch: What `set_epoch` set.
        start: How many videos of the epoch (of all ranks) are done already; the next iteration begins there,
        once.
    """

    def __init__(
        self,
        num_items: int,
        *,
        batch: int,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        balance: NDArray[np.int64] | None = None,
        pairs: bool = False,
    ) -> None:
        if pairs and batch % 2:
            raise ValueError(f"batch ({batch} videos) must be even to mix clips in pairs; use {batch + 1}.")
        if num_items < 1 or batch < 1:
            raise ValueError(f"num_items ({num_items}) and batch ({batch}) must be at least 1.")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed ({seed}) must be in 0..2**64-1.")
        _check_rank(rank, world_size)
        if num_items < world_size:
            raise ValueError(f"{num_items} videos cannot feed world_size ({world_size}) ranks; use fewer ranks.")
        self.num_items = num_items
        self.batch = batch
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.balance = balance
        self.pairs = pairs
        self.balanced = balance is not None
        self.epoch = 0
        self.start = 0

    @property
    def sampler(self) -> "EpochSampler":
        """The sampler itself, where Lightning looks for `set_epoch`."""
        return self

    @property
    def global_batch(self) -> int:
        """Videos per step of all ranks."""
        return self.batch * self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        if epoch < 0:
            raise ValueError(f"epoch ({epoch}) must be 0 or more.")
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the batches of a whole epoch on this rank, wherever the next iteration starts."""
        return len(range(self.rank, self._end(0), self.global_batch))

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        """Return the batches of (epoch, index) from `start` on, as it is now; the first batch uses it up."""
        return self._batches(self.start)  # not in the generator: torch's workers call `iter` twice for one epoch

    def _batches(self, start: int) -> Iterator[list[tuple[int, ...]]]:
        epoch, self.start = self.epoch, 0
        order = epoch_order(self.num_items, seed=self.seed, epoch=epoch) if self.shuffle else np.arange(self.num_items)
        items = self._items(epoch)
        for first in range(start, self._end(start), self.global_batch):
            mine = order[first : min(first + self.global_batch, self.num_items)]
            mine = mine[np.arange(len(mine)) // (1 + self.pairs) % self.world_size == self.rank].tolist()
            if mine:
                yield [items(index) for index in mine]

    def state_dict(self) -> dict[str, int]:
        """Return the place in the job's order, and what the order depends on.

        Loaders read ahead, so only the training loop knows how far it is: set `start` (batches done times
        `global_batch`) before the place is saved.
        """
        names = [name for name in ("epoch", "start", *_ORDER) if name != "balanced" or self.balanced]
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position; another number of ranks or another batch keeps the order.

        Raises:
            ValueError: The order would be another: other videos, seed or shuffling; or the place is beyond
                the epoch.
        """
        differing = [
            f"{name} {state.get(name, False)} -> {getattr(self, name)}"
            for name in _ORDER
            if state.get(name, False) != getattr(self, name)
        ]
        if differing:
            raise ValueError(
                f"the order of videos is not the saved one ({', '.join(differing)}); resume with the same data and seed"
            )
        if not 0 <= state["start"] <= self.num_items:
            raise ValueError(f"start ({state['start']}) must be in 0..{self.num_items}.")
        self.epoch, self.start = state["epoch"], state["start"]

    def _items(self, epoch: int) -> Callable[[int], tuple[int, ...]]:
        """Return what turns a number of the order into an item."""
        if self.balance is None:
            return lambda index: (epoch, index)
        videos, turns = (numbers.tolist() for numbers in balanced_videos(self.balance, seed=self.seed, epoch=epoch))
        return lambda index: (epoch, videos[index], turns[index])

    def _end(self, start: int) -> int:
        """Return the end of the range of global batches that begins at `start`."""
        whole = (self.num_items - start) // self.global_batch * self.global_batch
        return start + whole if self.drop_last and start + whole > 0 else self.num_items


class ShardSampler(Sampler[int]):
    """Every video once over all ranks: rank, rank + world_size, ... without padding: no score counts twice.

    Yields the items of `vidgn.data.views.ViewDataset`: all pieces of a video go to one rank, in order.

    Args:
        num_items: Videos in the data set.
        rank: This process.
        world_size: Processes of the job.
        done: Videos that are scored already; the others are shared out.
        pieces: Items of each video.
        begun: How many of its pieces are done, for videos of which only some are.

    Raises:
        ValueError: rank is not in 0..world_size-1.
    """

    def __init__(
        self,
        num_items: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        done: Collection[int] = (),
        pieces: int = 1,
        begun: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        _check_rank(rank, world_size)
        left = [index for index in range(num_items) if index not in done] if done else range(num_items)
        self._videos = left[rank::world_size]
        self._pieces = pieces
        self._begun = begun

    def __len__(self) -> int:
        return len(self._videos) * self._pieces - sum(self._begun.get(video, 0) for video in self._videos)

    def __iter__(self) -> Iterator[int]:
        for video in self._videos:
            yield from range(video * self._pieces + self._begun.get(video, 0), (video + 1) * self._pieces)


_ORDER = ("num_items", "seed", "shuffle", "balanced")  # what the order depends on


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank ({rank}) must be in 0..world_size-1, and world_size is {world_size}.")
