import numpy as np
import pytest
import torch

from vidgn.data.images.views import NUM_DRAWS, PictureView, apply_picture_view, centre_view, draw_picture_view
from vidgn.data.transforms import Box

PLAIN = PictureView(Box(0, 0, 4, 4), (), (0.0, 0.0, 0.0), False)


def draws(**changes):
    """All draws one half, but some: a5 is the fifth of the crops, r0 the first of the rest."""
    values = np.full(NUM_DRAWS, 0.5)
    for name, value in changes.items():
        values[int(name[1:]) + (50 if name[0] == "r" else 0)] = value
    return values


def grey(height, width, value=100):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("changes", "box"),
    [
        # Area 0.08 + 0.92 / 2 = 0.54 of 200 x 300, root 180; ratio 3/4 + 0.4 * 7/12 = 0.98333: 177 wide, 183.05 high.
        ({}, (0.5, 0.5, 183, 177)),
        ({"a2": 0.49}, (0.5, 0.5, 177, 183)),  # the sides change places
        ({"a0": 0.0, "a1": 0.0}, (0.5, 0.5, 92, 52)),  # 8 %: 69.3 / 0.75 high, 69.3 * 0.75 wide
        ({"a3": 0.0, "a4": 0.999}, (0.0, 1.0, 183, 177)),  # the upper right corner
    ],
)
def test_a_crop_is_a_share_of_the_area_with_a_ratio_of_sides(changes, box):
    top, left, height, width = box
    view = draw_picture_view(draws(**{"a1": 0.4, **changes}), height=200, width=300, flip=False)
    assert view.box[2:] == (height, width)
    assert view.box.top == pytest.approx(top * (200 - height), abs=1)
    assert view.box.left == pytest.approx(left * (300 - width), abs=1)


def test_a_crop_that_does_not_fit_is_drawn_anew_and_then_is_the_centre():
    tall = {f"a{5 * attempt}": 0.999 for attempt in range(10)}  # all of the area of a strip never fits
    view = draw_picture_view(draws(**tall), height=40, width=400, flip=False)
    assert view.box == (0, 180, 40, 40)
    view = draw_picture_view(draws(**{**tall, "a35": 0.0, "a36": 0.5}), height=40, width=400, flip=False)
    assert view.box[2:] == (34, 37)  # the eighth attempt: the root of 8 % is 35.8, over and times 25/24


def test_colours_are_jittered_in_an_order_that_is_drawn():
    view = draw_picture_view(draws(r0=0.0, r1=0.5, r2=0.75, r3=0.0), height=9, width=9, flip=False)
    assert [name for name, _ in view.colours] == ["brightness", "contrast", "saturation"]
    assert [factor for _, factor in view.colours] == pytest.approx([0.6, 1.0, 1.2])
    view = draw_picture_view(draws(r0=0.0, r3=0.999), height=9, width=9, flip=False)
    assert [name for name, _ in view.colours] == ["saturation", "contrast", "brightness"]
    assert view.colours[2][1] == pytest.approx(0.6)


def test_light_is_a_normal_step_along_the_colours_of_imagenet():
    # Draw pairs (1 - e^-2, 0), (0, .), (0, .): one normal of 2, two of 0. First eigenvector, 0.1 * 2 * 0.2175 * 255.
    view = draw_picture_view(draws(r4=1 - np.exp(-2), r5=0.0, r6=0.0, r8=0.0), height=9, width=9, flip=False)
    expected = 11.0925 * np.array([-0.5675, -0.5808, -0.5836])
    np.testing.assert_allclose(view.light, expected, rtol=1e-12)


def test_light_and_mirror_have_the_distribution_of_the_source():
    rng = np.random.default_rng(0)
    views = [draw_picture_view(rng.random(NUM_DRAWS), height=64, width=80, flip=True) for _ in range(3000)]
    light = np.array([view.light for view in views])
    assert abs(light.mean(0)).max() < 0.2
    # Var of R: (25.5)^2 * sum of (eigenvector * eigenvalue)^2 over the components, to 3 standard errors.
    red = 25.5 * np.sqrt((0.5675 * 0.2175) ** 2 + (0.7192 * 0.0188) ** 2 + (0.4009 * 0.0045) ** 2)
    assert light[:, 0].std() == pytest.approx(red, rel=0.04)
    assert np.mean([view.flip for view in views]) == pytest.approx(0.5, abs=0.03)
    shares = [view.box.height * view.box.width / (64 * 80) for view in views]
    assert min(shares) > 0.07
    assert max(shares) <= 1
    assert not any(draw_picture_view(rng.random(NUM_DRAWS), height=9, width=9, flip=False).flip for _ in range(20))


def test_a_picture_is_cut_scaled_and_mirrored():
    picture = grey(4, 8, 0)
    picture[:, 4:6] = (255, 0, 0)
    picture[:, 6:] = (0, 0, 255)
    view = PLAIN._replace(box=Box(0, 4, 4, 4))
    assert apply_picture_view(picture, view, side=4)[:, 0].T.tolist() == [[255, 0, 0]] * 2 + [[0, 0, 255]] * 2
    mirrored = apply_picture_view(picture, view._replace(flip=True), side=4)
    assert mirrored[:, 0].T.tolist() == [[0, 0, 255]] * 2 + [[255, 0, 0]] * 2
    assert mirrored.dtype == torch.uint8
    assert apply_picture_view(grey(40, 30, 77), PLAIN._replace(box=Box(3, 5, 20, 9)), side=16).unique().tolist() == [77]


@pytest.mark.parametrize(
    ("colours", "light", "expected"),
    [
        ((("brightness", 0.5),), (0, 0, 0), (50, 25, 75)),
        # Grey of the picture: 0.299 * 100 + 0.587 * 50 + 0.114 * 150 = 76.35; half of it and half of the pixel.
        ((("saturation", 0.5),), (0, 0, 0), (88, 63, 113)),
        ((("contrast", 0.5),), (0, 0, 0), (88, 63, 113)),  # the same, in a picture of one colour
        ((("brightness", 2.0), ("contrast", 2.0)), (0, 0, 0), (247, 47, 255)),  # 2 * 200 - 152.7, cut off at 255
        ((), (10.4, -60, 0.6), (110, 0, 151)),
    ],
)
def test_colours_blend_with_black_and_with_grey(colours, light, expected):
    picture = np.tile(np.array([100, 50, 150], np.uint8), (4, 4, 1))
    found = apply_picture_view(picture, PLAIN._replace(colours=colours, light=light), side=4)
    assert found[:, 2, 3].tolist() == list(expected)


def test_contrast_goes_to_the_mean_grey_and_saturation_to_each_pixels():
    picture = grey(4, 4, 0)
    picture[:2] = 200
    half = (("contrast", 0.5),)
    assert apply_picture_view(picture, PLAIN._replace(colours=half), side=4)[0, :, 0].tolist() == [150, 150, 50, 50]
    half = (("saturation", 0.5),)
    assert apply_picture_view(picture, PLAIN._replace(colours=half), side=4)[0, :, 0].tolist() == [200, 200, 0, 0]


def test_the_centre_is_the_middle_of_the_picture_at_its_short_side():
    picture = grey(16, 40, 10)
    picture[:, 13:27] = 200
    found = centre_view(picture, short_side=16, side=12)
    assert found.shape == (3, 12, 12)
    assert found.unique().tolist() == [200]
    assert centre_view(grey(512, 640), short_side=256, side=224).shape == (3, 224, 224)
    assert centre_view(grey(30, 20), short_side=37, side=32).shape == (3, 32, 32)  # enlarged
