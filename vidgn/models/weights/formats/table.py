"""The table of formats: one row per kind of weight file."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from vidgn.models.weights.formats import renames
from vidgn.models.weights.formats.pixels import Channels, Pixels
from vidgn.models.weights.formats.renames import Rule

__all__ = ["FORMATS", "Channels", "Format", "recognise"]


class Format(NamedTuple):
    """One kind of weight file.

    Attributes:
        name: of the source.
        marker: pattern of a key it always has and the rows above it never.
        table: its names to ours.
        pixels: what it was trained on; None where the file itself says.
        pictures: trained on pictures: kernels look at one frame and are inflated.
        num_groups: G of its group norms, where it has them.
        hwio: kernels are (kh, kw, I, O) and matrices (I, O), as TensorFlow has them.
        any_model: its names are ours for every model, not for an I3D alone.
        pool1: the stem its I3D has, as `I3DSpec.pool1`.
        kinetics: 400 outputs are the classes of Kinetics-400, in alphabetical order.
        weight_standardization: how its nets standardize kernels, as `build_model` has it.
        refusal: why it cannot be used, and what to do.
    """

    name: str
    marker: str
    table: Sequence[Rule]
    pixels: Pixels | None
    pictures: bool = False
    num_groups: int | None = None
    hwio: bool = False
    any_model: bool = False
    pool1: Literal["nonlocal", "paper", "mmaction2", "pytorchvideo"] | None = None
    kinetics: bool = False
    weight_standardization: bool | str = False
    refusal: str | None = None


def recognise(keys: Iterable[str]) -> Format | None:
    """Find the format that the names of a file's tensors belong to."""
    names = list(keys)
    return next((form for form in FORMATS if any(re.fullmatch(form.marker, name) for name in names)), None)


_IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_KINETICS = Pixels((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
# Detectron's PIXEL_MEANS, blue first: 102.9801, 115.9465, 122.7717 (detectron/core/config.py:952).
_DETECTRON = Pixels((122.7717 / 255, 115.9465 / 255, 102.9801 / 255), (0.225, 0.225, 0.225), bgr=True, raw=True)

FORMATS: tuple[Format, ...] = (
    Format("vidgn", r"net\.blocks\.0\..+", renames.VIDGN, None, any_model=True),
    Format(
        "torchvision MViT", r"pos_encoding\.class_token", renames.TORCHVISION_MVIT, _KINETICS, any_model=True,
        kinetics=True,
    ),
    Format(
        "pytorchvideo", r"blocks\.0\..+", renames.PYTORCHVIDEO, _KINETICS, any_model=True, pool1="pytorchvideo",
        kinetics=True,
    ),
    # GroupNorm-reproduce's imagenet_utils.py:143-147 subtracts ImageNet's mean and std from BGR.
    Format(
        "tensorpack", "conv0/W", renames.TENSORPACK, _IMAGENET._replace(bgr=True), pictures=True, num_groups=32,
        hwio=True,
    ),
    Format("Detectron", "conv1_gn_s", renames.CAFFE2, _DETECTRON, pictures=True, num_groups=32),
    Format(
        "video-nonlocal-net", "res_conv1_bn_riv", renames.CAFFE2, _KINETICS, pool1="nonlocal", kinetics=True
    ),
    Format(
        "Detectron with folded batch norm", "res_conv1_bn_s", renames.CAFFE2, _DETECTRON, pictures=True,
        refusal="is a ResNet whose batch-norm statistics are folded away and whose strides are on the 1x1"
        " convolutions (Detectron's R-50.pkl), which is not this net; use init=torchvision for batch norm, or"
        " R-50-GN.pkl for group norm.",
    ),
    Format(
        "PySlowFast", r"s1\.pathway0_stem\.conv\.weight", renames.SLOWFAST, _KINETICS, pool1="pytorchvideo",
        kinetics=True,
    ),
    Format(
        "mmaction2", r"backbone\.conv1\.conv\.weight", renames.MMACTION, _IMAGENET, pool1="mmaction2",
        kinetics=True,
    ),
    Format("gluon-cv", r"first_stage\.0\.weight", renames.GLUON, _IMAGENET, pool1="mmaction2", kinetics=True),
    Format(
        "BiT", r"stages\.0\.blocks\.0\.norm1\.weight", renames.BIT, Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        pictures=True, num_groups=32, weight_standardization="timm",
    ),
    Format(
        "torchvision", r"layer1\.0\.conv1\.weight", renames.TORCHVISION, _IMAGENET, pictures=True, num_groups=32
    ),
)  # fmt: skip
