"""The views of whole videos, for testing: what a worker reads, and what travels to the device.

    video      clip 0   clip 1  ...  clip 9   |  clip 10 ...      10 clips of 64 frames make one piece
    piece      each frame that some clip needs, resized, once     views (clip x crop) are cut on the device

A ten-second video with 10 clips x 3 crops travels as its unique frames: a fifth to two fifths of the bytes of its
views at 32 x 2. A piece holds no more than `PIECE_FRAMES` frames, however long the video is and however many views
are asked for; with more clips a video comes in several pieces, each from an opening of its own.
"""

import errno
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidgn.data.batches import VideoViews
from vidgn.data.buffers import Buffers, resize_into
from vidgn.data.clips import ClipRule, ClipSpec, clip_frames
from vidgn.data.faults.child_process import Arrays
from vidgn.data.faults.isolated_read import DEADLINE_SECONDS, IsolatedRead
from vidgn.data.loading.worker_status import Board
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import Backend, Reader, VideoDecodeError, refuse_notes
from vidgn.data.transforms import Box, CropSpec, NumCrops, scaled_size, test_boxes
from vidgn.data.video import open_video

PIECE_FRAMES = 640  # ten clips of 64 frames; 230 MB at 256 x 455 px
# Bytes of a piece, in squares of the short side: every frame may be four times as long as it is high. At 256 px that is
# 500 MB; a panorama of 4096x64 px would take 8 GB.
_PIECE_SQUARES = 4 * PIECE_FRAMES
_GROUP = 8  # frames resized in one call: few calls, and the pixels stay in the cache
_frames, _groups = Buffers(), Buffers()  # of their own: a group must not take the room of a video
_MACHINE_FAULTS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # never the fault of the video


class ViewDataset(Dataset[VideoViews]):
    """The views of whole videos; an item is one piece of one video, read in one opening and one pass.

    Item `video * num_pieces + piece`: all pieces of the first video, then of the second, ... A video that cannot be
    read is an item with an `error`; it is never left out or replaced.

    Args:
        manifest: The videos.
        clip: Frames and span.
        crop: Sizes in pixels.
        num_clips: Clips per video.
        num_crops: 1, 3 or full.
        rule: Where the clips start; see `vidgn.data.clips.clip_frames`.
        backend: The decoder.
        deadline_seconds: How long to wait for one piece; then the video has failed. None: for ever.
        strict: A video that cannot be read, or of which something is left out, is an error, not an item.

    Attributes:
        num_pieces: Of each video.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        clip: ClipSpec,
        crop: CropSpec,
        num_clips: int = 10,
        num_crops: NumCrops = 3,
        rule: ClipRule = "nonlocal",
        backend: Backend = "pyav",
        deadline_seconds: float | None = DEADLINE_SECONDS,
        strict: bool = False,
    ) -> None:
        # A wrong number fails here, not in a worker.
        clip_frames(1, num_clips=num_clips, clip_len=clip.clip_len, span=clip.span, rule=rule)
        boxes = test_boxes(crop.test_side, crop.test_side, side=crop.test_side, num_crops=num_crops)
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
        self._clips = piece_bounds(num_clips, clip_len=clip.clip_len)
        self.num_pieces = len(self._clips) - 1
        self._crops_per_clip = len(boxes)
        self._guard = IsolatedRead(self._open, deadline_seconds=deadline_seconds)

    def __len__(self) -> int:
        return len(self.manifest) * self.num_pieces

    def pieces_within(self, num_views: int) -> int:
        """Count the pieces of a video that its first `num_views` views hold whole."""
        return sum(end * self._crops_per_clip <= num_views for end in self._clips[1:])

    def __getitem__(self, item: int) -> VideoViews:
        """Read a piece of a video.

        Raises:
            OSError: The machine is at fault (open files, memory); with `strict`, any.
            VideoDecodeError: With `strict`, where the file is not a whole video.
            ReaderKilled: The system killed the process that read it.
        """
        video, piece = divmod(item, self.num_pieces)
        first, end = self._clips[piece : piece + 2]
        views = self._empty(video, first, end)
        path = self.manifest.path(video)
        try:
            with self.board.reading(path):
                (frames, index), boxes = self._guard(path, first, end)
        except (VideoDecodeError, OSError) as err:
            if self.strict or (isinstance(err, OSError) and err.errno in _MACHINE_FAULTS):
                raise
            return replace(views, error=str(err))
        return replace(views, frames=torch.from_numpy(frames), index=torch.from_numpy(index), boxes=boxes)

    def views_of(self, reader: Reader) -> Iterator[VideoViews]:
        """Yield the pieces of a video that is open already, as row 0.

        Raises:
            OSError, VideoDecodeError: a frame cannot be read.
        """
        for first, end in pairwise(self._clips):
            (frames, index), boxes = self._read(reader, first, end)
            pixels = torch.from_numpy(frames)
            yield replace(self._empty(0, first, end), frames=pixels, index=torch.from_numpy(index), boxes=boxes)

    def _empty(self, video: int, first: int, end: int) -> VideoViews:
        """Return the views of clips first..end-1 without pixels."""
        crops = self._crops_per_clip
        return VideoViews(
            frames=torch.empty((3, 0, 0, 0), dtype=torch.uint8),
            index=torch.empty((0, self.clip.clip_len), dtype=torch.int64),
            boxes=(),
            label=self.manifest.label(video),
            video=video,
            first_view=first * crops,
            num_views=(end - first) * crops,
            total_views=self.num_clips * crops,
        )

    def _open(self, path: str, first: int, end: int) -> tuple[Arrays, tuple[Box, ...]]:
        with open_video(path, backend=self.backend) as reader:
            if self.strict:
                refuse_notes(reader)
            return self._read(reader, first, end)

    def _read(self, reader: Reader, first: int, end: int) -> tuple[Arrays, tuple[Box, ...]]:
        """Return each frame that clips first..end-1 need once, which of them make each clip, and the crops."""
        sizes = {"clip_len": self.clip.clip_len, "span": self.clip.span}
        indices = clip_frames(len(reader), num_clips=self.num_clips, **sizes, rule=self.rule)[first:end]
        wanted, index = np.unique(indices, return_inverse=True)
        frames = _resized(reader, wanted, short_side=self.crop.test_side)
        boxes = test_boxes(*frames.shape[2:], side=self.crop.test_side, num_crops=self.num_crops)
        return [frames.numpy(), index.reshape(indices.shape)], boxes


def piece_bounds(num_clips: int, *, clip_len: int) -> list[int]:
    """Return the clips at which pieces begin, and the end: as few and as equal pieces as `PIECE_FRAMES` allows.

    >>> piece_bounds(10, clip_len=64), piece_bounds(30, clip_len=32), piece_bounds(2, clip_len=1000)
    ([0, 10], [0, 15, 30], [0, 1, 2])
    """
    most = max(1, PIECE_FRAMES // clip_len)
    num_pieces = -(-num_clips // most)
    return [piece * num_clips // num_pieces for piece in range(num_pieces + 1)]


def _check_size(reader: Reader, num_frames: int, size: tuple[int, int], *, short_side: int) -> None:
    """Refuse a video that is so long and narrow, or wide and low, that its scaled frames would fill the memory.

    Raises:
        VideoDecodeError: They would.
    """
    height, width = size
    if num_frames * height * width <= _PIECE_SQUARES * short_side**2:
        return
    gigabytes = 3 * num_frames * height * width / 1e9
    most = 3 * _PIECE_SQUARES * short_side**2 / 1e9
    raise VideoDecodeError(
        reader.path,
        f"its {reader.width}x{reader.height} px, scaled to a short side of {short_side} px, are {width}x{height} px: "
        f"{num_frames} frames take {gigabytes:.1f} GB, more than the {most:.1f} GB that are allowed; cut its frames "
        "nearer to a square, or score fewer clips",
    )


def _resized(reader: Reader, wanted: NDArray[np.int64], *, short_side: int) -> Tensor:
    """Read frames and scale each to this short side, uint8 (3,U,h,w); pixels lie in memory as (U,h,w,3)."""
    pictures = reader.frames(wanted)
    out, group = torch.empty(0), np.empty(0, np.uint8)
    for position, (_, frame) in enumerate(pictures):
        if not position:
            size = scaled_size(*frame.shape[:2], short_side=short_side)
            _check_size(reader, len(wanted), size, short_side=short_side)
            out = torch.from_numpy(_frames.empty((len(wanted), *size, 3)))
            group = _groups.empty((_GROUP, *frame.shape))
        if frame.shape[:2] == size:
            out[position].numpy()[:] = frame
            continue
        slot = position % _GROUP
        group[slot] = frame  # without padding: torch is three times slower on padded rows
        if slot == _GROUP - 1 or position == len(wanted) - 1:
            resize_into(group[: slot + 1], out[position - slot : position + 1])
    return out.permute(3, 0, 1, 2)
