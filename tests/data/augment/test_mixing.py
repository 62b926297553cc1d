import numpy as np
import pytest
import torch

from vidgn.data.augment import AUGMENT_DRAWS, AugmentSpec, mix_pairs
from vidgn.data.augment.mixing import beta
from vidgn.data.batches import ClipSample, MixingCollate
from vidgn.data.clips import random_draws
from vidgn.data.loading.sampler import EpochSampler


def draws(videos, clips=1):
    places = [(video, clip) for video in videos for clip in range(clips)]
    rows = [random_draws(0, epoch=1, video=video, view=clip, count=AUGMENT_DRAWS) for video, clip in places]
    return np.stack(rows).reshape(len(videos), clips, -1)


def constant(*values, clips=1, side=8):
    return torch.stack([torch.full((clips, 3, 4, side, side), value, dtype=torch.uint8) for value in values])


def test_mixup_mixes_pixels_and_labels_by_the_same_share():
    clips, targets = mix_pairs(
        constant(0, 200), torch.tensor([1, 2]), draws([5, 6]), AugmentSpec(mixup=1.0), num_classes=4
    )
    share = float(targets[0, 0, 1])
    assert 0 < share < 1
    assert targets[0, 0].tolist() == pytest.approx([0, share, 1 - share, 0])
    assert targets[1, 0].tolist() == pytest.approx([0, 1 - share, share, 0])
    assert clips[0].unique().tolist() == [round(200 * (1 - share))]
    assert clips[1].unique().tolist() == [round(200 * share)]


@pytest.mark.parametrize("kind", ["cutmix", "videomix"])
def test_a_part_of_a_clip_comes_from_its_neighbour_and_the_label_says_how_much(kind):
    shares, whole_length = set(), True
    for video in range(20):
        clips, targets = mix_pairs(
            constant(10, 20), torch.tensor([0, 1]), draws([video, 99]), AugmentSpec(**{kind: 1.0}), num_classes=2
        )
        own = clips[0, 0] == 10
        assert targets[0, 0].tolist() == pytest.approx([float(own.float().mean()), float((~own).float().mean())])
        assert torch.equal(clips[1, 0] == 20, own)  # the neighbour gets what was taken
        shares.add(round(float(targets[0, 0, 0]), 3))
        whole_length &= all(torch.equal(own[:, t], own[:, 0]) for t in range(4))
    assert len(shares) > 10
    assert whole_length is (kind == "cutmix")  # a rectangle of all frames, or a cuboid


def test_the_mixture_depends_on_the_first_video_of_the_pair_and_not_on_the_batch():
    spec = AugmentSpec(mixup=0.8, cutmix=1.0, videomix=0.5)
    clips, labels = torch.randint(0, 256, (4, 2, 3, 4, 8, 8), dtype=torch.uint8), torch.tensor([0, 1, 2, 3])
    together = mix_pairs(clips, labels, draws([7, 3, 8, 1], clips=2), spec, num_classes=4)
    alone = mix_pairs(clips[2:], labels[2:], draws([8, 1], clips=2), spec, num_classes=4)
    for whole, part in zip(together, alone, strict=True):
        assert torch.equal(whole[2:], part)
    assert not torch.equal(together[1][2, 0], together[1][2, 1])  # each clip of a video has its own share


def test_the_last_of_an_odd_number_stays_as_it_is():
    clips, targets = mix_pairs(
        constant(1, 2, 3), torch.tensor([0, 1, 2]), draws([1, 2, 3]), AugmentSpec(mixup=1.0), num_classes=3
    )
    assert torch.equal(clips[2], constant(3)[0])
    assert targets[2, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.2, 1 / (4 * 1.4))])
def test_shares_have_the_beta_distribution(alpha, variance):
    values = np.array([beta(random_draws(0, epoch=0, video=v, view=0, count=58), alpha) for v in range(4000)])
    assert values.mean() == pytest.approx(0.5, abs=0.03)
    assert values.var() == pytest.approx(variance, rel=0.06)  # 1 / (4 (2 alpha + 1))


def test_a_loader_mixes_and_keeps_the_labels():
    samples = [
        ClipSample(constant(value)[0], label, video, draws=torch.from_numpy(draws([video])[0]))
        for value, label, video in ((0, 1, 4), (100, 0, 2))
    ]
    batch = MixingCollate(AugmentSpec(mixup=1.0), num_classes=2)(samples).to("cpu")
    assert batch.labels.tolist() == [1, 0]
    assert batch.targets.shape == (2, 1, 2)
    assert batch.targets.sum(-1).flatten().tolist() == pytest.approx([1, 1])


def test_pairs_stay_together_whatever_the_ranks():
    def pairs(world_size, batch):
        found = set()
        for rank in range(world_size):
            sampler = EpochSampler(
                24, batch=batch, seed=0, shuffle=True, rank=rank, world_size=world_size, drop_last=True, pairs=True
            )
            for items in sampler:
                videos = [video for _, video in items]
                found |= set(zip(videos[::2], videos[1::2], strict=True))
        return found

    assert len(pairs(1, 8)) == 12
    assert pairs(1, 8) == pairs(2, 4) == pairs(4, 2)


def test_pairs_need_an_even_batch():
    with pytest.raises(ValueError, match=r"batch \(3 videos\) must be even to mix clips in pairs; use 4"):
        EpochSampler(24, batch=3, seed=0, shuffle=True, pairs=True)
