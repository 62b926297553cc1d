"""Operations on the pixels of a clip, uint8 (3,T,S,S) to the same, alike for all frames.

Statistics, such as the mean that contrast is about, are those of the whole clip: a clip of T frames is treated as one
picture of T S rows, so that nothing flickers.

    operation                    RandAugment, magnitude m in 0..1     TrivialAugment, wide
    shear_x, shear_y             +-0.3 m                              +-0.99 m
    translate_x, translate_y     +-150/331 m of the side              +-32/224 m of the side
    rotate                       +-30 m degrees                       +-135 m degrees
    brightness, color,
    contrast, sharpness          1 +- 0.9 m                           1 +- 0.99 m
    posterize                    8 - round(4 m) bits                  8 - round(6 m) bits
    solarize                     above 255 (1 - m)                    the same
    autocontrast, equalize       -                                    -

The spaces are torchvision's (torchvision/transforms/autoaugment.py, RandAugment and TrivialAugmentWide).
"""

import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip


def operate(clip: Tensor, name: str, magnitude: float, sign: float, *, wide: bool) -> Tensor:
    """Apply one operation.

    Args:
        clip: uint8 (3,T,S,S).
        name: one of `OPERATIONS`.
        magnitude: 0 to 1.
        sign: 1 or -1, of operations that have one.
        wide: in TrivialAugment's space.
    """
    side = clip.shape[-1]
    strength = sign * magnitude
    if name in ("shear_x", "shear_y"):
        angle = math.degrees(math.atan((0.99 if wide else 0.3) * strength))
        return _affine(clip, shear=[angle, 0.0] if name == "shear_x" else [0.0, angle])
    if name in ("translate_x", "translate_y"):
        pixels = round((32 / 224 if wide else 150 / 331) * side * strength)
        return _affine(clip, translate=[pixels, 0] if name == "translate_x" else [0, pixels])
    if name == "rotate":
        return _affine(clip, angle=(135 if wide else 30) * strength)
    if name in _FACTORS:
        return _FACTORS[name](clip, 1 + (0.99 if wide else 0.9) * strength)
    if name == "posterize":
        return cast("Tensor", F.posterize(clip, 8 - round((6 if wide else 4) * magnitude)))
    if name == "solarize":
        return cast("Tensor", F.solarize(clip, 255 * (1 - magnitude)))
    if name == "autocontrast":
        return _as_picture(clip, F.autocontrast)
    if name == "equalize":
        return _as_picture(clip, F.equalize)
    return clip


def brightness(clip: Tensor, factor: float) -> Tensor:
    """Multiply all pixels."""
    return cast("Tensor", F.adjust_brightness(clip.transpose(0, 1), factor).transpose(0, 1))


def contrast(clip: Tensor, factor: float) -> Tensor:
    """Move all pixels from or to the mean grey of the clip."""
    return _as_picture(clip, lambda picture: F.adjust_contrast(picture, factor))


def saturation(clip: Tensor, factor: float) -> Tensor:
    """Move each pixel from or to its own grey."""
    return cast("Tensor", F.adjust_saturation(clip.transpose(0, 1), factor).transpose(0, 1))


def grayscale(clip: Tensor) -> Tensor:
    """Leave the colours out."""
    return cast("Tensor", F.rgb_to_grayscale(clip.transpose(0, 1), num_output_channels=3).transpose(0, 1))


def light(clip: Tensor, shift: tuple[float, float, float]) -> Tensor:
    """Add a number to each channel."""
    shifted = clip.to(torch.float32) + torch.tensor(shift, dtype=torch.float32).view(3, 1, 1, 1)
    return shifted.round_().clamp_(0, 255).to(torch.uint8)


def _sharpness(clip: Tensor, factor: float) -> Tensor:
    return cast("Tensor", F.adjust_sharpness(clip.transpose(0, 1), factor).transpose(0, 1))


def _affine(
    clip: Tensor, *, angle: float = 0.0, translate: list[int] | None = None, shear: list[float] | None = None
) -> Tensor:
    frames = clip.transpose(0, 1)  # (T,3,S,S)
    moved = F.affine(
        frames, angle=angle, translate=[float(pixels) for pixels in translate or (0, 0)], scale=1.0,
        shear=shear or [0.0, 0.0], fill=[128.0],
    )  # fmt: skip
    return cast("Tensor", moved.transpose(0, 1))


def _as_picture(clip: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return change(clip.flatten(1, 2)).reshape(clip.shape)  # (3,T*S,S)


_FACTORS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": brightness, "color": saturation, "contrast": contrast, "sharpness": _sharpness,
}  # fmt: skip
