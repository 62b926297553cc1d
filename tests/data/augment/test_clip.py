import numpy as np
import pytest
import torch

from vidgn.data.augment import (
    AUGMENT_DRAWS,
    AugmentSpec,
    augment_clip,
    augmented_indices,
    augmented_view,
    pixels,
    reversal_changes,
)
from vidgn.data.transforms import CropSpec, source_box


@pytest.fixture
def clip():
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(40, 200, (3, 1, 16, 16), dtype=torch.uint8, generator=generator)
    return frame.repeat(1, 4, 1, 1)  # four equal frames


def draws(**places):
    row = np.full(AUGMENT_DRAWS, 0.5)
    for place, value in places.items():
        row[int(place[1:])] = value
    return row


@pytest.mark.parametrize("name", pixels.OPERATIONS)
@pytest.mark.parametrize("wide", [False, True])
def test_an_operation_treats_all_frames_alike_and_changes_them(clip, name, wide):
    changed = pixels.operate(clip, name, 0.9, 1.0, wide=wide)
    assert changed.dtype == torch.uint8
    assert changed.shape == clip.shape
    assert all(torch.equal(changed[:, t], changed[:, 0]) for t in range(4))
    assert torch.equal(changed, clip) is (name == "identity")


def test_statistics_are_those_of_the_clip_so_that_nothing_flickers():
    dark, bright = torch.full((3, 1, 4, 4), 60, dtype=torch.uint8), torch.full((3, 1, 4, 4), 140, dtype=torch.uint8)
    changed = pixels.contrast(torch.cat([dark, bright], 1), 0.5)
    assert changed.float().mean((0, 2, 3)).tolist() == pytest.approx([80, 120], abs=1)  # about 100; frames alone stay


def test_colour_jitter_grayscale_and_light(clip):
    assert torch.equal(augment_clip(clip, draws(), AugmentSpec(color_jitter=0.4)), clip)  # the middle of its range
    brighter = augment_clip(clip, draws(d64=1.0), AugmentSpec(color_jitter=0.4))
    assert float(brighter.float().mean() / clip.float().mean()) == pytest.approx(1.4, abs=0.03)
    grey = augment_clip(clip, draws(d77=0.1), AugmentSpec(grayscale=0.2))
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(augment_clip(clip, draws(d77=0.3), AugmentSpec(grayscale=0.2)), clip)
    lit = augment_clip(clip, draws(d70=0.9, d73=0.0), AugmentSpec(lighting=0.1)).float() - clip.float()
    assert lit.std((1, 2, 3)).max() == 0  # a number per channel
    assert lit[:, 0, 0, 0].tolist() == pytest.approx([-7, -7, -7], abs=1)  # 255 * 0.1 * 2.146 * 0.2175 * -0.57


def test_erasing_fills_a_cuboid_with_noise(clip):
    erased = augment_clip(clip, draws(d80=0.1, d85=0.3), AugmentSpec(erasing=0.25))
    different = (erased != clip).any(0)  # (T,S,S)
    frames = different.flatten(1).any(1)
    assert frames.tolist() == [False, True, True, False]  # 1 + int(0.3 * 4) frames, in the middle
    rows, columns = different[1].any(1).nonzero().flatten(), different[1].any(0).nonzero().flatten()
    assert different[1].sum() >= 0.9 * len(rows) * len(columns)
    assert 0.1 < float(different[1].float().mean()) < 0.25  # between 2 and 33 %: 17.7
    again = augment_clip(clip, draws(d80=0.1, d85=0.3), AugmentSpec(erasing=0.25))
    assert torch.equal(erased, again)
    assert torch.equal(augment_clip(clip, draws(d80=0.3), AugmentSpec(erasing=0.25)), clip)


def test_randaugment_makes_two_operations_and_trivialaugment_one(clip):
    both = augment_clip(clip, draws(d52=11.5 / 14, d54=0.01), AugmentSpec(randaugment=5))
    assert torch.equal(both, pixels.operate(clip, "solarize", 0.5, 1.0, wide=False))
    one = augment_clip(clip, draws(d56=10.5 / 14, d57=0.9), AugmentSpec(trivialaugment=True))
    assert torch.equal(one, pixels.operate(clip, "posterize", 0.9, 1.0, wide=True))


def test_a_resized_crop_shows_a_part_of_any_sides():
    spec, crop = AugmentSpec(resized_crop=0.25), CropSpec(32)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        row = rng.random(AUGMENT_DRAWS)
        view = augmented_view(row, spec, height=120, width=160, crop=crop, flip=False)
        box = source_box(view, height=120, width=160)
        assert (view.box.height, view.box.width) == (32, 32)
        assert box.top >= 0
        assert box.top + box.height <= 120
        assert box.left + box.width <= 160
        assert 0.7 < box.width / box.height < 1.43
        shares.append(box.height * box.width / (120 * 160))
    assert min(shares) == pytest.approx(0.25, abs=0.03)
    assert max(shares) > 0.7


def test_speed_and_direction_choose_other_frames():
    options = {"num_frames": 100, "clip_len": 4, "span": 16, "start": 0.0}
    assert augmented_indices(draws(), AugmentSpec(speed_jitter=0.5), **options).tolist() == [0, 4, 8, 12]
    assert augmented_indices(draws(d50=0.0), AugmentSpec(speed_jitter=0.5), **options).tolist() == [0, 2, 4, 6]
    assert augmented_indices(draws(d50=0.999), AugmentSpec(speed_jitter=0.5), **options).tolist() == [0, 6, 12, 18]
    assert augmented_indices(draws(d51=0.2), AugmentSpec(reverse=0.5), **options).tolist() == [12, 8, 4, 0]
    assert augmented_indices(draws(), AugmentSpec(reverse=0.5), **options).tolist() == [0, 4, 8, 12]


def test_names_with_a_direction_are_known():
    names = ["clapping", "opening_door", "sit down", "TakeCup", "laughing", "intonation"]
    assert reversal_changes(names) == ["opening_door", "sit down", "TakeCup"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": 2.0}, r"mixup \(2.0\) must be in 0..1; 0 is off, 0.8 is usual"),
        ({"cutmix": -1.0}, r"cutmix \(-1.0\) must be in 0..1"),
        ({"randaugment": 11.0}, r"randaugment \(11.0\) must be in 0..10; 0 is off, 9 is usual"),
        ({"erasing": 1.5}, r"erasing \(1.5\) must be in 0..1; 0 is off, 0.25 is usual"),
        ({"randaugment": 9.0, "trivialaugment": True}, r"randaugment \(9.0\) and trivialaugment are both on"),
        ({"speed_jitter": 1}, r"speed_jitter \(1\) must be below 1"),
    ],
)
def test_a_wrong_value_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        AugmentSpec(**options)
