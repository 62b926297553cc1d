"""The order of videos: a function of (seed, epoch), whatever the ranks and the place it resumes from."""

import logging
import warnings

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from vidgn.data.loading.sampler import EpochSampler, ShardSampler, epoch_order


def batches(sampler: EpochSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert all(e == epoch for batch in found for e, _ in batch)
    return [[index for _, index in batch] for batch in found]


def flat(groups: list[list[int]]) -> list[int]:
    return [index for group in groups for index in group]


def test_the_order_of_an_epoch_never_changes() -> None:
    assert epoch_order(8, seed=0, epoch=0).tolist() == [3, 4, 2, 1, 5, 0, 6, 7]
    assert epoch_order(8, seed=0, epoch=1).tolist() == [6, 2, 7, 5, 0, 4, 1, 3]
    assert epoch_order(8, seed=1, epoch=0).tolist() == [3, 7, 2, 6, 5, 4, 0, 1]


def test_every_epoch_is_another_permutation() -> None:
    orders = [epoch_order(1000, seed=3, epoch=epoch).tolist() for epoch in range(5)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    fixed = [sum(a == b for a, b in zip(x, y, strict=True)) for x in orders for y in orders if x is not y]
    assert max(fixed) < 10  # 1 is expected in the mean


def test_every_place_is_equally_likely() -> None:
    first = [int(epoch_order(4, seed=0, epoch=epoch)[0]) for epoch in range(2000)]
    assert all(430 < first.count(index) < 570 for index in range(4))  # 500, standard deviation 19


def test_without_shuffling_the_order_is_that_of_the_data_set() -> None:
    assert batches(EpochSampler(5, batch=2, seed=0, shuffle=False), epoch=3) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("num_items", "drop_last", "expected"),
    [
        (7, False, [3, 3, 1]),
        (7, True, [3, 3]),
        (6, True, [3, 3]),
        (2, True, [2]),  # the only batch is never dropped
    ],
)
def test_the_last_small_batch_is_dropped_where_asked(num_items: int, drop_last: bool, expected: list[int]) -> None:
    sampler = EpochSampler(num_items, batch=3, seed=0, shuffle=True, drop_last=drop_last)
    assert [len(batch) for batch in batches(sampler)] == expected
    assert len(sampler) == len(expected)


@pytest.mark.parametrize("num_items", [3, 11, 12, 13, 17])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_each_global_batch(num_items: int, drop_last: bool) -> None:
    options = {"seed": 5, "shuffle": True, "drop_last": drop_last}
    whole = batches(EpochSampler(num_items, batch=6, **options), epoch=2)
    ranks = [EpochSampler(num_items, batch=2, rank=rank, world_size=3, **options) for rank in range(3)]
    parts = [batches(rank, epoch=2) for rank in ranks]
    assert [len(part) for part in parts] == [len(rank) for rank in ranks]
    for step, expected in enumerate(whole):
        mine = [part[step] if step < len(part) else [] for part in parts]
        merged = [share[place] for place in range(2) for share in mine if place < len(share)]
        assert merged == expected  # interleaved: neighbours of the order lie on different ranks


def test_an_epoch_goes_on_where_it_stopped_and_the_next_is_whole() -> None:
    sampler = EpochSampler(10, batch=2, seed=0, shuffle=True)
    whole = batches(sampler, epoch=4)
    sampler.start = 3 * sampler.global_batch
    state = sampler.state_dict()
    other = EpochSampler(10, batch=2, seed=0, shuffle=True)
    other.load_state_dict(state)
    other.set_epoch(4)  # Lightning does, before each epoch
    assert [[index for _, index in batch] for batch in other] == whole[3:]
    assert len(other) == 5  # Lightning counts batches of the whole epoch
    assert batches(other, epoch=4) == whole
    other.load_state_dict(state)
    assert len(batches(other, epoch=5)) == 5


def test_a_place_is_kept_when_the_number_of_ranks_changes() -> None:
    order = epoch_order(24, seed=0, epoch=1).tolist()
    two = [EpochSampler(24, batch=2, seed=0, shuffle=True, rank=rank, world_size=2) for rank in range(2)]
    two[0].set_epoch(1)
    two[0].start = 2 * two[0].global_batch
    state = two[0].state_dict()
    assert state == {"epoch": 1, "start": 8, "num_items": 24, "seed": 0, "shuffle": True}
    one = EpochSampler(24, batch=3, seed=0, shuffle=True)
    one.load_state_dict(state)
    assert flat([[index for _, index in batch] for batch in one]) == order[8:]


@pytest.mark.parametrize("num_items", [3, 8, 10])
def test_nothing_is_left_after_the_last_batch(num_items: int) -> None:
    sampler = EpochSampler(num_items, batch=4, seed=0, shuffle=True, drop_last=True)
    sampler.start = min(len(sampler) * 4, num_items)
    assert list(sampler) == []


def test_a_place_of_another_order_is_refused() -> None:
    state = EpochSampler(10, batch=2, seed=0, shuffle=True).state_dict()
    with pytest.raises(
        ValueError, match=r"not the saved one \(num_items 10 -> 11, seed 0 -> 1\); resume with the same"
    ):
        EpochSampler(11, batch=2, seed=1, shuffle=True).load_state_dict(state)
    with pytest.raises(ValueError, match=r"start \(11\) must be in 0\.\.10"):
        EpochSampler(10, batch=2, seed=0, shuffle=True).load_state_dict(state | {"start": 11})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_items": 0}, r"num_items \(0\) and batch \(2\) must be at least 1"),
        ({"batch": 0}, r"num_items \(9\) and batch \(0\) must be at least 1"),
        ({"seed": -1}, r"seed \(-1\) must be in 0\.\.2\*\*64-1"),
        ({"rank": 2, "world_size": 2}, r"rank \(2\) must be in 0\.\.world_size-1, and world_size is 2"),
        ({"num_items": 2, "world_size": 3}, r"2 videos cannot feed world_size \(3\) ranks; use fewer ranks"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpochSampler(**({"num_items": 9, "batch": 2, "seed": 0, "shuffle": True} | options))


def test_an_epoch_is_not_negative() -> None:
    with pytest.raises(ValueError, match=r"epoch \(-1\) must be 0 or more"):
        EpochSampler(9, batch=2, seed=0, shuffle=True).set_epoch(-1)


def test_shards_hold_every_video_once() -> None:
    shards = [ShardSampler(8, rank=rank, world_size=3) for rank in range(3)]
    assert [list(shard) for shard in shards] == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert [len(shard) for shard in shards] == [3, 3, 2]
    with pytest.raises(ValueError, match=r"rank \(3\) must be in 0\.\.world_size-1"):
        ShardSampler(8, rank=3, world_size=3)


class Indices(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, item: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(item)


class Recorder(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int]] = []
        self.automatic_optimization = False

    def training_step(self, batch: torch.Tensor, index: int) -> None:
        self.seen += [(epoch, video) for epoch, video in batch.tolist()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_lightning_trainer_reshuffles_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)
    sampler = EpochSampler(12, batch=4, seed=0, shuffle=True, drop_last=True)
    module = Recorder()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # Lightning 2.6 on torch 2.15
        trainer.fit(module, DataLoader(Indices(), batch_sampler=sampler))
    first = [video for epoch, video in module.seen if epoch == 0]
    second = [video for epoch, video in module.seen if epoch == 1]
    assert first == epoch_order(12, seed=0, epoch=0).tolist()
    assert second == epoch_order(12, seed=0, epoch=1).tolist()
    assert first != second
