import pytest
import torch
from torch.nn import functional as F

from vidgn.models.weights.formats import Pixels, convert_input

MEAN, STD = (0.48, 0.45, 0.41), (0.23, 0.22, 0.21)


def channels(values):
    return torch.tensor(values, dtype=torch.float64).view(3, 1, 1)


@pytest.mark.parametrize(
    ("bgr", "raw", "note"),
    [
        (False, False, None),
        (True, False, "the first convolution was converted from BGR to RGB"),
        (False, True, "the first convolution was converted from pixels of 0..255 to such of std 0.23, 0.22, 0.21"),
        (
            True,
            True,
            "the first convolution was converted from BGR to RGB and from pixels of 0..255 to such of std"
            " 0.23, 0.22, 0.21",
        ),
    ],
)
def test_a_converted_kernel_gives_of_our_pixels_what_the_sources_gives_of_its_own(bgr, raw, note):
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (2, 3, 9, 9), generator=generator).double()
    kernel = torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)
    ours = (picture / 255 - channels(MEAN)) / channels(STD)
    theirs = picture - 255 * channels(MEAN) if raw else ours
    expected = F.conv2d(theirs.flip(1) if bgr else theirs, kernel, padding=2)  # padded: the border, too
    converted, said = convert_input(kernel, Pixels(MEAN, STD, bgr=bgr, raw=raw))
    torch.testing.assert_close(F.conv2d(ours, converted, padding=2), expected)
    assert said == note


def test_a_video_kernel_is_converted_in_every_frame():
    kernel = torch.randn(4, 3, 2, 5, 5)
    converted, _ = convert_input(kernel, Pixels(MEAN, STD, bgr=True, raw=True))
    frames = [convert_input(kernel[:, :, t], Pixels(MEAN, STD, bgr=True, raw=True))[0] for t in (0, 1)]
    assert torch.equal(converted, torch.stack(frames, 2))
