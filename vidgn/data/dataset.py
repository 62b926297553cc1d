"""From a manifest to items: `ClipDataset[epoch, video]` is K random clips, resized, cut and mirrored in the worker.

Training and validation read these; the test reads `vidgn.data.views`.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidgn.data.batches import ClipBatch, ClipSample
from vidgn.data.clip_pixels import ClipCut
from vidgn.data.clips import ClipRule, ClipSpec, frame_indices, random_draws, segment_frames, train_start
from vidgn.data.faults.child_process import Arrays
from vidgn.data.faults.isolated_read import DEADLINE_SECONDS, IsolatedRead
from vidgn.data.faults.quarantine import BadVideo, Quarantine
from vidgn.data.loading.worker_status import Board
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import Backend, Reader, VideoDecodeError, refuse_notes
from vidgn.data.transforms import (
    CropSpec,
    TrainView,
    draw_train_view,
)
from vidgn.data.video import open_video

__all__ = ["ClipBatch", "ClipDataset", "ClipSample"]

_VAL_VIEW = 1 << 20  # validation draws from views that training never uses
_SUBSTITUTE_VIEW = 1 << 21
_SEGMENTS_VIEW = 1 << 26
_SUBSTITUTES = 32  # consecutive failures; cannot be chance if 99 % of the videos are readable


class ClipDataset(Dataset[ClipSample]):
    """Random clips, for training and for the 1-clip validation of Figure 7.

    An item is a pure function of (seed, epoch, video, view): start, short side, crop and mirror come from one
    counter-based draw, so workers, ranks and resuming change nothing. `stream="val"` draws its own clips
    under the same augmentation (video-nonlocal-net, lib/models/model_builder_video.py:134-145), the same in
    every epoch, so that epochs compare.

    Args:
        manifest: The videos.
        clip: Frames and span.
        crop: Sizes in pixels.
        seed: Of all draws.
        flip: Mirror half of the clips; False where left and right are classes.
        stream: train or val.
        backend: The decoder.
        clips_per_video: K, clips cut from one opening of the file.
        rule: With `segments` a clip is one random frame of each equal part of the video; else `span` frames.
        quarantine: Where unreadable videos are written down. In training each is replaced by another one, a function of
            (seed, epoch, video) like everything else; in validation it is a sample that says `failed`. Without a
            quarantine an unreadable video is an error.
        deadline_seconds: How long to wait for one video, which then counts as unreadable; None: without a limit.
        strict: A video that is decoded only in part counts as unreadable.

    Raises:
        ValueError: clips_per_video, stream or deadline_seconds is out of range.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        clip: ClipSpec,
        crop: CropSpec,
        seed: int,
        flip: bool,
        stream: Literal["train", "val"],
        backend: Backend = "pyav",
        clips_per_video: int = 1,
        rule: ClipRule = "nonlocal",
        quarantine: Quarantine | None = None,
        deadline_seconds: float | None = DEADLINE_SECONDS,
        strict: bool = False,
    ) -> None:
        if clips_per_video < 1:
            raise ValueError(f"clips_per_video ({clips_per_video}) must be at least 1.")
        if stream not in ("train", "val"):
            raise ValueError(f"stream ({stream!r}) must be 'train' or 'val'.")
        self.manifest = manifest
        self.clip = clip
        self.crop = crop
        self.seed = seed
        self.flip = flip
        self.stream = stream
        self.backend = backend
        self.clips_per_video = clips_per_video
        self.rule = rule
        self.quarantine = quarantine
        self.deadline_seconds = deadline_seconds
        self.strict = strict
        self.board = Board()
        self._guard = IsolatedRead(self._open, deadline_seconds=deadline_seconds)

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, item: tuple[int, ...]) -> ClipSample:
        """Read the clips of `(epoch, video)`, or other ones for `(epoch, video, turn)`, 0 being those of the pair.

        Raises:
            VideoDecodeError: The file is not a whole video; the message names it.
            OSError: The file is missing or cannot be read.
            TooManyBadVideos: More of them than the quarantine allows.
            TypeError: `item` is a number, as samplers other than EpochSampler give.
        """
        if not isinstance(item, tuple):
            raise TypeError(f"ClipDataset is indexed by (epoch, video), not {item!r}; use EpochSampler.")
        epoch, video, turn = (*item, 0)[:3]
        if self.quarantine is None:
            return self._sample(epoch, video, turn)
        if self.stream == "val":
            return self._good(self.quarantine, epoch, video, 0) or self._failed(video)
        candidates = [video, *self._substitutes(epoch, video)]
        for candidate in candidates:
            sample = self._good(self.quarantine, epoch, candidate, turn)
            if sample is not None:
                return sample
        drawn = len(candidates) - 1
        raise VideoDecodeError(self.manifest.path(video), f"it and the {drawn} videos drawn for it are bad")

    def _good(self, quarantine: Quarantine, epoch: int, video: int, turn: int) -> ClipSample | None:
        """Read a video, or record it as unreadable; each unreadable one is tried once per run."""
        name = self.manifest.video_id(video)
        if quarantine.holds(self.stream, video, name, epoch=epoch):
            return None
        began = time.monotonic()
        try:
            return self._sample(epoch, video, turn)
        except VideoDecodeError as err:
            spent = round(time.monotonic() - began, 3)
            quarantine.add(BadVideo(name, err.reason, self.stream, video, epoch, spent, round(time.time(), 3)))
            return None

    def _sample(self, epoch: int, video: int, turn: int) -> ClipSample:
        path = self.manifest.path(video)
        with self.board.reading(path):
            (clips,), _ = self._guard(path, epoch, video, turn)
        return ClipSample(torch.from_numpy(clips), self.manifest.label(video), video)

    def _failed(self, video: int) -> ClipSample:
        side = self.crop.crop
        nothing = torch.zeros((self.clips_per_video, 3, self.clip.clip_len, side, side), dtype=torch.uint8)
        return ClipSample(nothing, self.manifest.label(video), video, failed=True)

    def _substitutes(self, epoch: int, video: int) -> list[int]:
        draws = random_draws(self.seed, epoch=epoch, video=video, view=_SUBSTITUTE_VIEW, count=_SUBSTITUTES)
        return [int(draw * len(self)) for draw in draws]

    def _open(self, path: str, epoch: int, video: int, turn: int) -> tuple[Arrays, None]:
        with open_video(path, backend=self.backend) as reader:
            if self.strict:
                refuse_notes(reader)
            return [self._read(reader, epoch=epoch, video=video, turn=turn).numpy()], None

    def _read(self, reader: Reader, *, epoch: int, video: int, turn: int = 0) -> Tensor:
        """Return the clips, uint8 (K,3,T,S,S), from one pass through the file."""
        first = turn * self.clips_per_video
        draws = [self._draws(epoch, video, first + view) for view in range(self.clips_per_video)]
        if self.rule == "segments":
            indices = self._segments(len(reader), epoch=epoch, video=video, first=first)  # (K,T)
        else:
            indices = self._indices(draws, len(reader))  # (K,T)
        cuts: list[ClipCut] = []
        for index, picture in reader.pictures(np.unique(indices)):
            if not cuts:  # the first picture tells the size; asking before would decode one more
                shape = picture.shape
                cuts = [
                    ClipCut(self._view(draw, shape), shape, wanted) for draw, wanted in zip(draws, indices, strict=True)
                ]
            for cut in cuts:
                cut.take(index, picture)
        clips = [self._finish(cut.resized(), draw) for cut, draw in zip(cuts, draws, strict=True)]
        return clips[0][None] if len(clips) == 1 else torch.stack(clips)

    def _indices(self, draws: Sequence[NDArray[np.float64]], num_frames: int) -> NDArray[np.int64]:
        """Return the frames of each clip, (K,T)."""
        span = self.clip.span
        starts = np.array([train_start(num_frames, span=span, uniform=draw[0]) for draw in draws])
        return frame_indices(starts, clip_len=self.clip.clip_len, span=span, num_frames=num_frames)

    def _segments(self, num_frames: int, *, epoch: int, video: int, first: int) -> NDArray[np.int64]:
        """Return a random frame of each equal part of the video, (K,T), from draws of their own."""
        if self.stream == "val":
            epoch, first = 0, _VAL_VIEW + first
        views = range(_SEGMENTS_VIEW + first, _SEGMENTS_VIEW + first + self.clips_per_video)
        draw = partial(random_draws, self.seed, epoch=epoch, video=video, count=self.clip.clip_len)
        return segment_frames(num_frames, np.stack([draw(view=view) for view in views]))

    def _finish(self, clip: Tensor, draw: NDArray[np.float64]) -> Tensor:
        """Change the pixels of a clip that is cut out, uint8 (3,T,S,S); here they stay."""
        return clip

    def _view(self, draw: NDArray[np.float64], shape: tuple[int, int]) -> TrainView:
        height, width = shape
        return draw_train_view(draw[1:], height=height, width=width, spec=self.crop, flip=self.flip)

    def _draws(self, epoch: int, video: int, view: int) -> NDArray[np.float64]:
        """Return the five draws of a clip: start, short side, top, left, mirror."""
        if self.stream == "val":
            epoch, view = 0, _VAL_VIEW + view
        return random_draws(self.seed, epoch=epoch, video=video, view=view, count=5)
