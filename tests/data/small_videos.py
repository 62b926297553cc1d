"""Small videos for the data sets: some in memory, some in files."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np

from vidgn.data.clips import ClipSpec
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.gather import ArrayPicture, as_pictures
from vidgn.data.transforms import CropSpec

CLIP = ClipSpec(clip_len=4, span=8)  # every second frame
CROP = CropSpec(14)  # short sides 16..20, test side 16
FILES = tuple(f"{index}.mkv" for index in range(6))  # of the fixture `files`


class FakeReader:
    """A video in memory whose frame i is a picture of value i (modulo 256); counts openings and passes."""

    opened = 0
    passes = 0
    notes: tuple[str, ...] = ()

    def __init__(self, path: str, num_frames: int, height: int, width: int) -> None:
        self.path, self.num_frames, self.height, self.width, self.fps = path, num_frames, height, width, 25.0

    def __len__(self) -> int:
        return self.num_frames

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        FakeReader.passes += 1
        for index in sorted(set(map(int, indices))):
            yield index, np.full((self.height, self.width, 3), index % 256, dtype=np.uint8)

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, ArrayPicture]]:
        return as_pictures(self.frames(indices))

    def __enter__(self) -> "FakeReader":
        FakeReader.opened += 1
        return self

    def __exit__(self, *args: object) -> None: ...


def manifest(root: Path, *names: str) -> Manifest:
    return Manifest.from_rows([(name, i % 3) for i, name in enumerate(names)], root=root, classes=["x", "y", "z"])


def write_noise(path: Path, *, num_frames: int, height: int, width: int, seed: int) -> None:
    """Write smooth noise that moves, without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, index, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
