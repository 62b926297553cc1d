"""Resize, crop, flip, normalize: against literals, Pillow and the formulas of the original."""

import numpy as np
import pytest
import torch
from PIL import Image

from vidgn.data import transforms
from vidgn.data.transforms import Box, CropSpec, Normalize, TrainView, apply_train_view, draw_train_view, source_box

LAST = 1 - 2**-53  # the largest float below 1


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("crop", "short_sides", "test_side"),
    [(224, (256, 320), 256), (112, (128, 160), 128), (64, (73, 91), 73), (32, (37, 46), 37), (1, (1, 1), 1)],
)
def test_sizes_follow_the_crop(crop: int, short_sides: tuple[int, int], test_side: int) -> None:
    spec = CropSpec(crop)
    assert (spec.short_sides, spec.test_side) == (short_sides, test_side)


def test_a_crop_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"crop \(0\) must be a positive number of pixels; the paper's is 224"):
        CropSpec(0)


@pytest.mark.parametrize(
    ("height", "width", "short_side", "expected"),
    [
        (240, 320, 256, (256, 341)),  # 341.33
        (256, 340, 256, (256, 340)),
        (1080, 1920, 256, (256, 455)),  # 455.11
        (640, 360, 256, (455, 256)),  # upright: 455.11
        (100, 100, 73, (73, 73)),
        (4, 6, 3, (3, 5)),  # 4.5 rounds up
    ],
)
def test_the_short_side_is_exact_and_the_long_side_rounded(
    height: int, width: int, short_side: int, expected: tuple[int, int]
) -> None:
    assert transforms.scaled_size(height, width, short_side=short_side) == expected


def test_the_short_side_is_exact_for_every_height() -> None:
    for height in range(120, 1100):
        assert transforms.scaled_size(height, 2 * height, short_side=256) == (256, 512)


class TestTrainView:
    def test_the_ends_of_every_range_are_reached(self) -> None:
        spec = CropSpec(224)
        first = draw_train_view([0.0] * 4, height=256, width=340, spec=spec, flip=True)
        assert first == TrainView((256, 340), Box(0, 0, 224, 224), True)
        last = draw_train_view([LAST] * 4, height=256, width=340, spec=spec, flip=True)
        assert last == TrainView((320, 425), Box(96, 201, 224, 224), False)

    def test_short_sides_are_uniform_integers(self) -> None:
        spec, draws = CropSpec(4), (np.arange(600) + 0.5) / 600  # short sides 5 and 6
        sides = [draw_train_view([u, 0, 0, 0], height=8, width=9, spec=spec, flip=False).size[0] for u in draws]
        assert np.bincount(sides).tolist() == [0, 0, 0, 0, 0, 300, 300]

    def test_offsets_are_uniform_integers(self) -> None:
        spec, draws = CropSpec(4), (np.arange(600) + 0.5) / 600  # size 5 x 5: offsets 0 and 1
        boxes = [draw_train_view([0, u, 1 - u, 0], height=8, width=8, spec=spec, flip=False).box for u in draws]
        assert np.bincount([box.top for box in boxes]).tolist() == [300, 300]
        assert np.bincount([box.left for box in boxes]).tolist() == [300, 300]

    def test_half_of_the_clips_are_mirrored_unless_it_would_change_the_class(self) -> None:
        size = {"height": 8, "width": 8, "spec": CropSpec(4)}
        flips = [draw_train_view([0, 0, 0, u / 100], flip=True, **size).flip for u in range(100)]
        assert sum(flips) == 50
        assert not any(draw_train_view([0, 0, 0, u / 100], flip=False, **size).flip for u in range(100))

    def test_a_view_resizes_then_cuts_then_mirrors(self) -> None:
        frames = noise(2, 4, 6, 3)
        clip = apply_train_view(frames, TrainView((4, 6), Box(1, 2, 3, 3), True))
        assert clip.shape == (3, 2, 3, 3)
        assert np.array_equal(clip.numpy().transpose(1, 2, 3, 0), frames[:, 1:4, 2:5][:, :, ::-1])

    def test_every_frame_of_a_clip_gets_the_same_view(self) -> None:
        still = np.repeat(noise(1, 20, 30, 3), 3, axis=0)
        view = draw_train_view([0.7, 0.3, 0.9, 0.2], height=20, width=30, spec=CropSpec(16), flip=True)
        clip = apply_train_view(still, view)
        assert torch.equal(clip[:, :1].expand(-1, 3, -1, -1), clip)


class TestSourceBox:
    def test_edges_are_rounded_to_stored_pixels(self) -> None:
        # 18 rows show 24: 3..17 are 4..22.67; 24 columns show 32: 2..16 are 2.67..21.33
        view = TrainView((18, 24), Box(3, 2, 14, 14), False)
        assert source_box(view, height=24, width=32) == Box(4, 3, 19, 18)

    def test_a_frame_of_the_right_size_is_cut_where_the_view_says(self) -> None:
        view = TrainView((40, 60), Box(5, 7, 32, 32), False)
        assert source_box(view, height=40, width=60) == Box(5, 7, 32, 32)

    @pytest.mark.parametrize(("height", "width"), [(256, 340), (240, 426), (1, 1), (1, 9), (2000, 16), (1080, 1920)])
    def test_no_edge_moves_by_more_than_half_a_stored_pixel(self, height: int, width: int) -> None:
        for draws in np.random.default_rng(0).random((200, 4)):
            view = draw_train_view(draws, height=height, width=width, spec=CropSpec(224), flip=False)
            box, (top, left, side, _) = source_box(view, height=height, width=width), view.box
            down, across = height / view.size[0], width / view.size[1]
            assert 0 <= box.top < box.top + box.height <= height
            assert 0 <= box.left < box.left + box.width <= width
            limit = 0.5 + 1e-9 if min(height, width) > 1 else 1.0  # of a single pixel all is shown
            assert abs(box.top - top * down) <= limit
            assert abs(box.top + box.height - (top + side) * down) <= limit
            assert abs(box.left - left * across) <= limit
            assert abs(box.left + box.width - (left + side) * across) <= limit

    def test_the_pixels_are_pillows_resize_of_the_box(self) -> None:
        frames = noise(2, 48, 64, 3)
        view = TrainView((52, 69), Box(9, 11, 40, 40), True)  # stored rows 8..45, columns 10..47
        ours = apply_train_view(frames, view).permute(1, 2, 3, 0).numpy().astype(int)
        for mine, frame in zip(ours, frames, strict=True):
            cut = Image.fromarray(frame).crop((10, 8, 47, 45)).resize((40, 40), Image.Resampling.BILINEAR)
            assert np.abs(mine - np.asarray(cut)[:, ::-1].astype(int)).max() <= 1


class TestResize:
    @pytest.mark.parametrize("size", [(17, 23), (64, 80), (33, 90), (256, 340)])  # smaller, larger, both
    def test_it_is_pillows_antialiased_bilinear(self, size: tuple[int, int]) -> None:
        frames = noise(2, 48, 64, 3)
        ours = transforms.resize(frames, size=size).permute(1, 2, 3, 0).numpy().astype(int)
        for mine, frame in zip(ours, frames, strict=True):
            theirs = np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
            assert np.abs(mine - theirs).max() <= 1

    def test_frames_of_the_right_size_stay_as_they_are(self) -> None:
        frames = noise(2, 5, 7, 3)
        assert np.array_equal(transforms.resize(frames, size=(5, 7)).permute(1, 2, 3, 0).numpy(), frames)

    def test_arrays_and_tensors_give_the_same(self) -> None:
        frames = noise(2, 5, 7, 3)
        ours = transforms.resize(torch.from_numpy(frames), size=(9, 9))
        assert ours.dtype == torch.uint8
        assert torch.equal(ours, transforms.resize(frames, size=(9, 9)))

    @pytest.mark.parametrize("frames", [np.zeros((2, 4, 4, 3)), noise(4, 4, 3), noise(2, 3, 4, 4)])
    def test_other_layouts_and_types_are_refused(self, frames: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"frames must be uint8 \(T,H,W,3\), but are torch\."):
            transforms.resize(frames, size=(2, 2))


class TestTestBoxes:
    @pytest.mark.parametrize(
        ("height", "width", "expected"),
        [
            (256, 341, [(0, 0), (0, 42), (0, 84)]),  # int(85 / 2) = 42
            (256, 340, [(0, 0), (0, 42), (0, 84)]),
            (455, 256, [(0, 0), (99, 0), (198, 0)]),  # upright
            (256, 256, [(0, 0), (0, 0), (0, 0)]),
        ],
    )
    def test_three_crops_lie_along_the_longer_side(
        self, height: int, width: int, expected: list[tuple[int, int]]
    ) -> None:
        boxes = transforms.test_boxes(height, width, side=256, num_crops=3)
        assert boxes == tuple(Box(top, left, 256, 256) for top, left in expected)
        assert transforms.test_boxes(height, width, side=256, num_crops=1) == (boxes[1],)

    def test_the_full_frame_is_one_box(self) -> None:
        assert transforms.test_boxes(256, 341, side=256, num_crops="full") == (Box(0, 0, 256, 341),)

    def test_a_box_cuts_its_pixels(self) -> None:
        frames = torch.arange(24).view(1, 1, 4, 6)
        assert transforms.crop(frames, Box(1, 2, 2, 3)).tolist() == [[[[8, 9, 10], [14, 15, 16]]]]

    def test_wrong_arguments_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"num_crops \(2\) must be 1, 3 or 'full'"):
            transforms.test_boxes(256, 341, side=256, num_crops=2)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a crop of 256 px does not fit into 255 x 341"):
            transforms.test_boxes(255, 341, side=256, num_crops=1)


class TestNormalize:
    def test_it_is_the_formula_of_the_original(self) -> None:
        clips = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16).expand(2, 3, 1, 16, 16)
        out = Normalize()(clips)
        expected = (clips.to(torch.float64) - 114.75) / 57.375  # video-nonlocal-net, lib/core/config.py:108-109
        assert out.dtype == torch.float32
        assert torch.allclose(out.to(torch.float64), expected, atol=1e-6)

    def test_each_channel_has_its_own_mean_and_std(self) -> None:
        out = Normalize(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))(torch.full((1, 3, 1, 1, 1), 255, dtype=torch.uint8))
        assert out.flatten().tolist() == [1.0, 1.0, 0.0]

    def test_it_has_no_state_in_a_checkpoint_and_shows_its_numbers(self) -> None:
        assert Normalize().state_dict() == {}
        assert repr(Normalize(mean=(0, 0, 0), std=(1, 1, 2))) == "Normalize(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 2.0])"

    def test_wrong_numbers_are_refused(self) -> None:
        with pytest.raises(ValueError, match="must be three numbers each, std positive"):
            Normalize(mean=(0.45,))
        with pytest.raises(ValueError, match="must be three numbers each, std positive"):
            Normalize(std=(0.2, 0.2, 0.0))

    @pytest.mark.parametrize("clips", [torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 4, 2, 4, 4, dtype=torch.uint8)])
    def test_clips_that_are_no_pixels_are_refused(self, clips: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"clips must be uint8 \(N,3,T,H,W\), but are torch\."):
            Normalize()(clips)
