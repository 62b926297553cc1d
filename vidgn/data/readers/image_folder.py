"""A folder of images as a video: `img_00001.jpg` and so on, in the order of the numbers in their names."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from itertools import pairwise
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.gather import ArrayPicture, as_pictures, distinct, gather_frames
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.excerpt import ImageFolder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
_FORMAT = re.compile(r"\{[^{}]*\}|%0?\d*d")
_NUMBER = re.compile(r"(\d+)(?!.*\d)")


class ImageFolderReader:
    """The images of one folder; see `vidgn.data.readers.types.Reader`.

    Args:
        path: The folder.
        folder: Which of its files are the frames.
        max_pixels: Largest image (height x width) that is decoded.

    Raises:
        OSError: There is no such folder, or it cannot be read.
        VideoDecodeError: It holds no such image, two images have one number, or a number is missing.
    """

    def __init__(self, path: str, folder: ImageFolder, *, max_pixels: int) -> None:
        self.path = path
        self.fps = folder.fps
        self._max_pixels = max_pixels
        self._names, self.notes = _ordered(path, folder)
        self._shape: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._names)

    def seconds(self) -> NDArray[np.float64]:
        """Return when frames are shown; see `vidgn.data.readers.types.Reader.seconds`."""
        return np.arange(len(self) + 1, dtype=np.float64) / self.fps

    @property
    def height(self) -> int:
        """Rows of an image; decodes the first one where none was read yet."""
        return self._size()[0]

    @property
    def width(self) -> int:
        """Columns of an image; decodes the first one where none was read yet."""
        return self._size()[1]

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield distinct frames in ascending order; see `vidgn.data.readers.types.Reader.frames`."""
        wanted = distinct(indices, num_frames=len(self), path=self.path)
        return ((index, self._image(index)) for index in wanted)

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, ArrayPicture]]:
        """Yield the same frames; see `vidgn.data.readers.types.Reader.pictures`."""
        return as_pictures(self.frames(indices))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames in any order and shape; see `vidgn.data.readers.types.Reader.read`."""
        return gather_frames(indices, self.frames)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def __enter__(self) -> "ImageFolderReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _size(self) -> tuple[int, int]:
        if self._shape is None:
            self._image(0)
        assert self._shape is not None
        return self._shape

    def _image(self, index: int) -> NDArray[np.uint8]:
        name = self._names[index]
        image = decode_image(os.path.join(self.path, name), max_pixels=self._max_pixels)
        shape = (image.shape[0], image.shape[1])
        if self._shape is None:
            self._shape = shape
        if shape != self._shape:
            (height, width), first = shape, f"{self._shape[1]}x{self._shape[0]}"
            raise VideoDecodeError(self.path, f"{name} has {width}x{height} px, other images have {first} px")
        return image


def decode_image(path: str, *, max_pixels: int) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB (H, W, 3).

    Raises:
        VideoDecodeError: It is not a whole image, or too large.
        OSError: It is missing or cannot be read.
    """
    import io
    import warnings

    from PIL import Image

    with open(path, "rb") as file:
        content = file.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF: no pixel depends on it
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height <= max_pixels:
                    return np.array(image.convert("RGB"))
                size = f"{image.width}x{image.height}"
    except Exception as err:  # each of Pillow's decoders has errors of its own
        raise VideoDecodeError(path, f"the image cannot be decoded ({err or type(err).__name__})") from err
    raise VideoDecodeError(path, f"{size} pixels are more than {max_pixels:,}; make it smaller")


def _ordered(path: str, folder: ImageFolder) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of the images in the order of their numbers, and a note where numbers are missing."""
    if not os.path.isdir(path):
        kind = NotADirectoryError if os.path.exists(path) else FileNotFoundError
        code = errno.ENOTDIR if os.path.exists(path) else errno.ENOENT
        raise kind(code, os.strerror(code), path)
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    matching = _matching(names, folder.pattern)
    if not matching:
        wanted = folder.pattern or " ".join(f"*{suffix}" for suffix in IMAGE_SUFFIXES)
        raise VideoDecodeError(path, f"the folder holds no image named {wanted} ({len(names)} other files)")
    numbers = sorted(matching)
    for (number, name), (again, other) in pairwise(numbers):
        if number == again:
            text = f"{name} and {other} have the same number; set data.images to a pattern of one of them"
            raise VideoDecodeError(path, text)
    names = [name for _, name in numbers]
    low, high = numbers[0][0], numbers[-1][0]
    lost = high - low + 1 - len(numbers)
    if not lost:
        return names, ()
    first = next(number + 1 for (number, _), (after, _) in pairwise(numbers) if after > number + 1)
    text = f"{lost:,} of the images {low} to {high} are missing, the first is {first}"
    if folder.gaps == "error":
        raise VideoDecodeError(path, f"{text}; add them, or set data.gaps=close")
    return names, (text,)


def _matching(names: Iterable[str], pattern: str | None) -> list[tuple[int, str]]:
    """Return (number, name) of the images; the number is the pattern's own, or the last one in the name."""
    if pattern is None:
        images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        found = [(_NUMBER.search(os.path.splitext(name)[0]), name) for name in images]
    elif _FORMAT.search(pattern):
        before, after = _FORMAT.split(pattern, maxsplit=1)
        number = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
        found = [(number.fullmatch(name), name) for name in names]
    else:
        shape = re.compile(translate(pattern))
        found = [(_NUMBER.search(os.path.splitext(name)[0]), name) for name in names if shape.match(name)]
    return [(int(match[1]), name) for match, name in found if match]
