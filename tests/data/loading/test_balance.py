from collections import Counter

import numpy as np
import pytest

from vidgn.data.loading.balance import balanced_videos
from vidgn.data.loading.sampler import EpochSampler

LABELS = np.array([0] * 7 + [1] * 3 + [3] * 1, np.int64)  # no video of class 2


def test_every_class_comes_equally_often_in_an_epoch():
    for epoch in range(6):
        videos, _ = balanced_videos(LABELS, seed=0, epoch=epoch)
        counts = Counter(LABELS[videos].tolist())
        assert len(videos) == 11
        assert set(counts) == {0, 1, 3}
        assert set(counts.values()) <= {3, 4}


def test_over_the_epochs_every_video_of_a_class_comes_equally_often():
    epochs = [balanced_videos(LABELS, seed=0, epoch=epoch)[0] for epoch in range(42)]
    counts = Counter(np.concatenate(epochs).tolist())
    by_class = [sorted(counts[v] for v in range(11) if LABELS[v] == label) for label in (0, 1, 3)]
    assert [sum(values) for values in by_class] == [154, 154, 154]  # 42 x 11 / 3
    assert all(values[-1] - values[0] <= 1 for values in by_class)


def test_a_video_that_comes_again_has_another_turn():
    videos, turns = balanced_videos(LABELS, seed=0, epoch=0)
    pairs = list(zip(videos.tolist(), turns.tolist(), strict=True))
    assert len(set(pairs)) == 11
    assert sorted(turn for video, turn in pairs if video == 10) == list(range(Counter(videos.tolist())[10]))


def test_another_epoch_or_seed_takes_other_videos():
    first = balanced_videos(LABELS, seed=0, epoch=0)[0].tolist()
    assert balanced_videos(LABELS, seed=0, epoch=0)[0].tolist() == first
    assert balanced_videos(LABELS, seed=0, epoch=1)[0].tolist() != first
    assert balanced_videos(LABELS, seed=1, epoch=0)[0].tolist() != first


def batches(world_size, *, start=0, batch=4):
    samplers = [
        EpochSampler(
            11, batch=batch // world_size, seed=3, shuffle=True, rank=rank, world_size=world_size, balance=LABELS
        )
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(2)
        sampler.start = start
    return list(zip(*samplers, strict=False))


def test_ranks_share_the_same_global_batches():
    one = [sorted(batch) for (batch,) in batches(1)]
    two = [sorted(first + second) for first, second in batches(2)]
    assert one[:2] == two[:2]
    assert all(epoch == 2 for batch in one for epoch, _, _ in batch)


def test_a_resumed_epoch_goes_on_with_the_same_videos():
    assert batches(1, start=4) == batches(1)[1:]


def test_a_saved_order_is_not_gone_on_with_balanced():
    plain = EpochSampler(11, batch=2, seed=3, shuffle=True)
    balanced = EpochSampler(11, batch=2, seed=3, shuffle=True, balance=LABELS)
    with pytest.raises(ValueError, match=r"balanced False -> True"):
        balanced.load_state_dict(plain.state_dict())
    older = {name: value for name, value in plain.state_dict().items() if name != "balanced"}
    plain.load_state_dict(older)  # of a version that knew no balance
