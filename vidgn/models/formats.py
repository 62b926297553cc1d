"""Published weight files as data: how each names its tensors and what pictures it was trained on.

A format is recognised by one key it always has. Its names go through its rename tables in turn and come out
as ours, which are pytorchvideo's. A rule's right side is a template for `re.Match.expand`, a function of the
match, or None for a tensor that is no part of the net. A name no rule matches is unexpected.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Rule = tuple[str, str | Callable[[re.Match[str]], str] | None]
Channels = tuple[float, float, float]

HEAD = "blocks.6.proj."  # the classifier: the one part a loader may leave out


class Format(NamedTuple):
    """One kind of weight file.

    `marker` is the key it is known by. `pictures`: trained on ImageNet, so kernels are 2-D and the classifier
    never fits. `mean` and `std` of the pixels, RGB, as fractions of 1; None where the file itself says.
    `num_groups` is the G of its group norms where it has them.
    """

    name: str
    marker: str
    tables: tuple[Sequence[Rule], ...]
    pictures: bool
    mean: Channels | None
    std: Channels | None
    num_groups: int | None = None


def recognise(keys: Iterable[str]) -> Format | None:
    """Find the format that the names of a file's tensors belong to."""
    names = set(keys)
    return next((form for form in FORMATS if form.marker in names), None)


def rename(key: str, tables: Iterable[Sequence[Rule]]) -> str | None:
    """Translate one name through the tables; None where a rule drops it.

    Raises:
        KeyError: no rule matches.
    """
    for table in tables:
        renamed = _apply(key, table)
        if renamed is None:
            return None
        key = renamed
    return key


_STAGE = {"1": 1, "2": 3, "3": 4, "4": 5}  # torchvision's layer -> our block; block 2 is pool2
_CONV = {"1": "a", "2": "b", "3": "c"}

TORCHVISION: Sequence[Rule] = (
    (r"conv1\.weight", r"blocks.0.conv.weight"),
    (r"bn1\.(.+)", r"blocks.0.norm.\1"),
    (r"layer([1-4])\.(\d+)\.conv([123])\.weight", lambda m: f"{_block(m)}.branch2.conv_{_CONV[m[3]]}.weight"),
    (r"layer([1-4])\.(\d+)\.bn([123])\.(.+)", lambda m: f"{_block(m)}.branch2.norm_{_CONV[m[3]]}.{m[4]}"),
    (r"layer([1-4])\.(\d+)\.downsample\.0\.weight", lambda m: f"{_block(m)}.branch1_conv.weight"),
    (r"layer([1-4])\.(\d+)\.downsample\.1\.(.+)", lambda m: f"{_block(m)}.branch1_norm.{m[3]}"),
    (r"fc\.(weight|bias)", HEAD + r"\1"),
)
VIDGN: Sequence[Rule] = (
    (r"net\.(blocks\..+)", r"\1"),
    (r"(?!net\.).+", None),  # what a checkpoint keeps beside the net
)
PYTORCHVIDEO: Sequence[Rule] = ((r"(blocks\..+)", r"\1"),)

FORMATS: tuple[Format, ...] = (
    Format("vidgn", "net.blocks.0.conv.weight", (VIDGN,), pictures=False, mean=None, std=None),
    Format(
        "pytorchvideo",
        "blocks.0.conv.weight",
        (PYTORCHVIDEO,),
        pictures=False,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    ),
    Format(  # timm's resnet50_gn has the same names
        "torchvision",
        "layer1.0.conv1.weight",
        (TORCHVISION,),
        pictures=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        num_groups=32,
    ),
)


def _apply(key: str, table: Sequence[Rule]) -> str | None:
    for pattern, target in table:
        match = re.fullmatch(pattern, key)
        if match is not None:
            return target(match) if callable(target) else target and match.expand(target)
    raise KeyError(key)


def _block(match: re.Match[str]) -> str:
    return f"blocks.{_STAGE[match[1]]}.res_blocks.{match[2]}"
