"""Published weight files as data: how each names its tensors, and the pictures it was trained on."""

from vidgn.models.weights.formats.pixels import Pixels, convert_input
from vidgn.models.weights.formats.renames import HEAD, TORCHVISION, rename
from vidgn.models.weights.formats.table import FORMATS, Channels, Format, recognise

__all__ = [
    "FORMATS", "HEAD", "TORCHVISION", "Channels", "Format", "Pixels", "convert_input", "recognise", "rename",
]  # fmt: skip
