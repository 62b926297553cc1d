"""From a manifest to items: one item is one video with its clips.

    ClipDataset[epoch, video]   K random clips, resized, cut and mirrored in the worker    train, validate
    ViewDataset[video]          each frame that some test clip needs, resized, once        test

A test video with 10 clips x 3 crops travels as its unique frames, and its views are cut on the device: a fifth to
two fifths of the bytes for ten-second videos at 32 x 2.
"""

import errno
import time
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidgn.data.batches import ClipBatch, ClipSample, VideoViews, ViewBatch
from vidgn.data.board import Board
from vidgn.data.clips import ClipSpec, frame_indices, random_draws, test_starts, train_start
from vidgn.data.cut import Cut
from vidgn.data.guard import DEADLINE_SECONDS, Guard
from vidgn.data.helper import Arrays
from vidgn.data.manifest import Manifest
from vidgn.data.quarantine import BadVideo, Quarantine
from vidgn.data.transforms import (
    Box,
    CropSpec,
    NumCrops,
    TrainView,
    draw_train_view,
    resize,
    scaled_size,
    test_boxes,
)
from vidgn.data.video import Backend, Reader, VideoDecodeError, open_video

__all__ = ["ClipBatch", "ClipDataset", "ClipSample", "VideoViews", "ViewBatch", "ViewDataset"]

_VAL_VIEW = 1 << 20  # validation draws from views that training never uses
_SUBSTITUTE_VIEW = 1 << 21
_SUBSTITUTES = 32  # so many bad ones in a row are no chance where 99 of 100 videos are good
_GROUP = 8  # frames resized in one call: few calls, and the pixels stay in the cache
_MACHINE_FAULTS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # never the fault of the video


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
        quarantine: Where bad videos are written down. In training each is replaced by another one, a function of
            (seed, epoch, video) like everything else; in validation it is a sample that says `failed`. Without a
            quarantine a bad video is an error.
        deadline_seconds: How long to wait for one video, which then is a bad one; None: for ever.

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
        quarantine: Quarantine | None = None,
        deadline_seconds: float | None = DEADLINE_SECONDS,
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
        self.quarantine = quarantine
        self.deadline_seconds = deadline_seconds
        self.board = Board()
        self._guard = Guard(self._open, deadline_seconds=deadline_seconds)

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, item: tuple[int, int]) -> ClipSample:
        """Read the clips of `(epoch, video)`.

        Raises:
            VideoDecodeError: The file is no whole video; the message names it.
            OSError: The file is missing or cannot be read.
            TooManyBadVideos: More of them than the quarantine allows.
            TypeError: `item` is a number, as samplers other than EpochSampler give.
        """
        if not isinstance(item, tuple):
            raise TypeError(f"ClipDataset is indexed by (epoch, video), not {item!r}; use EpochSampler.")
        epoch, video = item
        if self.quarantine is None:
            return self._sample(epoch, video)
        if self.stream == "val":
            return self._good(self.quarantine, epoch, video) or self._failed(video)
        place = [video, *self._substitutes(epoch, video)]
        for candidate in place:
            sample = self._good(self.quarantine, epoch, candidate)
            if sample is not None:
                return sample
        raise VideoDecodeError(self.manifest.path(video), f"it and the {len(place) - 1} videos drawn for it are bad")

    def _good(self, quarantine: Quarantine, epoch: int, video: int) -> ClipSample | None:
        """Read a video, or find it bad; a bad one is read in vain once per run."""
        name = self.manifest.video_id(video)
        if quarantine.holds(self.stream, video, name, epoch=epoch):
            return None
        began = time.monotonic()
        try:
            return self._sample(epoch, video)
        except VideoDecodeError as err:
            spent = round(time.monotonic() - began, 3)
            quarantine.add(BadVideo(name, err.reason, self.stream, video, epoch, spent, round(time.time(), 3)))
            return None

    def _sample(self, epoch: int, video: int) -> ClipSample:
        path = self.manifest.path(video)
        with self.board.reading(path):
            (clips,), _ = self._guard(path, epoch, video)
        return ClipSample(torch.from_numpy(clips), self.manifest.label(video), video)

    def _failed(self, video: int) -> ClipSample:
        side = self.crop.crop
        nothing = torch.zeros((self.clips_per_video, 3, self.clip.clip_len, side, side), dtype=torch.uint8)
        return ClipSample(nothing, self.manifest.label(video), video, failed=True)

    def _substitutes(self, epoch: int, video: int) -> list[int]:
        draws = random_draws(self.seed, epoch=epoch, video=video, view=_SUBSTITUTE_VIEW, count=_SUBSTITUTES)
        return [int(draw * len(self)) for draw in draws]

    def _open(self, path: str, epoch: int, video: int) -> tuple[Arrays, None]:
        with open_video(path, backend=self.backend) as reader:
            return [self._read(reader, epoch=epoch, video=video).numpy()], None

    def _read(self, reader: Reader, *, epoch: int, video: int) -> Tensor:
        """Return the clips, uint8 (K,3,T,S,S), from one pass through the file."""
        draws = [self._draws(epoch, video, view) for view in range(self.clips_per_video)]
        span, num_frames = self.clip.span, len(reader)
        starts = np.array([train_start(num_frames, span=span, uniform=draw[0]) for draw in draws])
        indices = frame_indices(starts, clip_len=self.clip.clip_len, span=span, num_frames=num_frames)  # (K,T)
        cuts: list[Cut] = []
        for index, frame in reader.frames(np.unique(indices)):
            if not cuts:  # the first picture tells the size; asking before would decode one more
                cuts = [
                    Cut(self._view(draw, frame), frame, wanted) for draw, wanted in zip(draws, indices, strict=True)
                ]
            for cut in cuts:
                cut.take(index, frame)
        clips = [cut.resized() for cut in cuts]
        return clips[0][None] if len(clips) == 1 else torch.stack(clips)

    def _view(self, draw: NDArray[np.float64], frame: NDArray[np.uint8]) -> TrainView:
        height, width = frame.shape[:2]
        return draw_train_view(draw[1:], height=height, width=width, spec=self.crop, flip=self.flip)

    def _draws(self, epoch: int, video: int, view: int) -> NDArray[np.float64]:
        """Return the five draws of a clip: start, short side, top, left, mirror."""
        if self.stream == "val":
            epoch, view = 0, _VAL_VIEW + view
        return random_draws(self.seed, epoch=epoch, video=video, view=view, count=5)


class ViewDataset(Dataset[VideoViews]):
    """The views of whole videos, for testing: one opening and one pass through each file.

    A video that cannot be read is an item with an `error`; it is never left out or replaced.

    Args:
        manifest: The videos.
        clip: Frames and span.
        crop: Sizes in pixels.
        num_clips: Clips per video.
        num_crops: 1, 3 or full.
        rule: Where the clips start; see `vidgn.data.clips.test_starts`.
        backend: The decoder.
        deadline_seconds: How long to wait for one video, which then has failed; None: for ever.
        strict: A video that cannot be read is an error, not an item with an `error`.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        clip: ClipSpec,
        crop: CropSpec,
        num_clips: int = 10,
        num_crops: NumCrops = 3,
        rule: Literal["nonlocal", "linspace"] = "nonlocal",
        backend: Backend = "pyav",
        deadline_seconds: float | None = DEADLINE_SECONDS,
        strict: bool = False,
    ) -> None:
        test_starts(1, num_clips=num_clips, span=clip.span, rule=rule)  # a wrong number fails here, not in a worker
        test_boxes(crop.test_side, crop.test_side, side=crop.test_side, num_crops=num_crops)
        self.manifest = manifest
        self.clip = clip
        self.crop = crop
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.rule = rule
        self.backend = backend
        self.strict = strict
        self.deadline_seconds = deadline_seconds
        self.board = Board()
        self._guard = Guard(self._open, deadline_seconds=deadline_seconds)

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, video: int) -> VideoViews:
        """Read the views of a video.

        Raises:
            OSError: The machine is at fault (open files, memory); with `strict`, any.
            VideoDecodeError: With `strict`, where the file is no whole video.
            ReaderKilled: The system killed the process that read it.
        """
        label, path = self.manifest.label(video), self.manifest.path(video)
        try:
            with self.board.reading(path):
                (frames, index), boxes = self._guard(path)
        except (VideoDecodeError, OSError) as err:
            if self.strict or (isinstance(err, OSError) and err.errno in _MACHINE_FAULTS):
                raise
            empty = torch.empty((3, 0, 0, 0), dtype=torch.uint8)
            nothing = torch.empty((0, self.clip.clip_len), dtype=torch.int64)
            return VideoViews(empty, nothing, (), label, video, error=str(err))
        return VideoViews(torch.from_numpy(frames), torch.from_numpy(index), boxes, label, video)

    def _open(self, path: str) -> tuple[Arrays, tuple[Box, ...]]:
        with open_video(path, backend=self.backend) as reader:
            return self._read(reader)

    def _read(self, reader: Reader) -> tuple[Arrays, tuple[Box, ...]]:
        """Return each needed frame once, which of them make each clip, and the crops."""
        starts = test_starts(len(reader), num_clips=self.num_clips, span=self.clip.span, rule=self.rule)
        indices = frame_indices(starts, clip_len=self.clip.clip_len, span=self.clip.span, num_frames=len(reader))
        wanted, index = np.unique(indices, return_inverse=True)
        frames = _resized(reader, wanted, short_side=self.crop.test_side)
        boxes = test_boxes(*frames.shape[2:], side=self.crop.test_side, num_crops=self.num_crops)
        return [frames.numpy(), index.reshape(indices.shape)], boxes


def _resized(reader: Reader, wanted: NDArray[np.int64], *, short_side: int) -> Tensor:
    """Read frames and scale each to this short side, uint8 (3,U,h,w); pixels lie in memory as (U,h,w,3)."""
    pictures = reader.frames(wanted)
    out, group = torch.empty(0), np.empty(0, np.uint8)
    for place, (_, frame) in enumerate(pictures):
        if not place:
            size = scaled_size(*frame.shape[:2], short_side=short_side)
            out = torch.empty((len(wanted), *size, 3), dtype=torch.uint8)
            group = np.empty((_GROUP, *frame.shape), dtype=np.uint8)
        if frame.shape[:2] == size:
            out[place].numpy()[:] = frame
            continue
        slot = place % _GROUP
        group[slot] = frame  # without padding: torch is three times slower on padded rows
        if slot == _GROUP - 1 or place == len(wanted) - 1:
            out[place - slot : place + 1] = resize(group[: slot + 1], size=size).permute(1, 2, 3, 0)
    return out.permute(3, 0, 1, 2)
