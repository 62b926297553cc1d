"""Clips to calibrate and to compare nets with: decoded once, kept in a file, normalized as they are read."""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import IO, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidgn.data.clips import ClipSpec
from vidgn.data.images.module import data_module
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.spec import PICTURES, DataSpec, Split, ViewSpec
from vidgn.data.transforms import CropSpec


class ClipFile:
    """Clips uint8 (N, 3, T, S, S) in a file without a name, which the system deletes; iterates over normalized batches.

    Memory holds one batch, whatever N.
    """

    def __init__(self, *, normalize: nn.Module, batch: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="vidgn-clips-")  # noqa: SIM115 - lives as long as this
        self._normalize = normalize
        self._batch = batch
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file, which deletes it."""
        self._file.close()

    def write(self, clips: Tensor) -> None:
        """Append clips."""
        self._shape = tuple(clips.shape[1:])
        self._file.write(clips.contiguous().numpy().tobytes())
        self._count += len(clips)

    def __iter__(self) -> Iterator[Tensor]:
        """Give batches of normalized floats."""
        self._file.flush()
        for start in range(0, self._count, self._batch):
            rows = min(self._batch, self._count - start)
            size = int(np.prod(self._shape))
            self._file.seek(start * size)
            pixels: NDArray[np.uint8] = np.frombuffer(bytearray(self._file.read(rows * size)), np.uint8)
            yield self._normalize(torch.from_numpy(pixels.reshape(rows, *self._shape)))


class Sizes(NamedTuple):
    """Frames and pixels of a clip."""

    clip: ClipSpec
    crop: CropSpec


def read_clips(
    manifests: Mapping[Split, Manifest],
    split: Split,
    *,
    spec: DataSpec,
    sizes: Sizes,
    count: int,
    normalize: nn.Module,
    batch: int,
    seed: int,
) -> ClipFile:
    """Decode `count` clips of a split as training sees them, each of another video as long as there are some.

    Raises:
        ValueError: the split has no videos.
    """
    manifest = manifests[split]
    if len(manifest) == 0:
        raise ValueError(f"the {split} split of data={spec.name} has no videos; set data= and data.root=.")
    pictures = spec.name in PICTURES
    module = data_module(spec.name)(
        {"train": manifest},
        spec=dataclasses.replace(spec, num_workers=spec.num_workers or 0, clips_per_video=1),
        clip=sizes.clip,
        crop=sizes.crop,
        test=ViewSpec(1, 1) if pictures else ViewSpec(),
        batch=min(batch, len(manifest)),
        seed=seed,
    )
    clips = ClipFile(normalize=normalize, batch=batch)
    try:
        for one in islice(_all_batches(module), -(-count // min(batch, len(manifest)))):
            clips.write(one.clips.flatten(0, 1)[: count - len(clips)])
    except BaseException:
        clips.__exit__()
        raise
    return clips


def _all_batches(module: Any) -> Iterator[Any]:
    """Give training batches, epoch after epoch."""
    loader = module.train_dataloader()
    epoch = 0
    while True:
        loader.batch_sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


@torch.no_grad()
def top1(net: nn.Module, clips: ClipFile, device: torch.device) -> Tensor:
    """Return the class (N,) that a net in evaluation gives each clip."""
    net.eval()
    return torch.cat([net(batch.to(device)).argmax(1).cpu() for batch in clips])
