"""Random clips of videos in memory for training, and fixed ones for the test."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.videos import Videos
from vidgn.data.batches import ClipBatch, ClipSample
from vidgn.data.clips import frame_indices, random_draws, test_starts
from vidgn.data.loading.sampler import EpochSampler

_VAL_VIEW = 1 << 20  # validation draws from views that training never uses


class ClipForm(NamedTuple):
    """What the net sees of a video: `clip_len` frames of each `span`, and a square of `crop` pixels."""

    clip_len: int
    spans: tuple[int, ...] = (64,)  # raw frames; where there are several, each clip draws its own
    crop: int = 32


class MemoryClips(Dataset[ClipSample]):
    """One random clip per video: start, crop and span are a function of (seed, epoch, video).

    With `fixed` every epoch draws the same clips, apart from those of training, so that epochs compare.
    """

    def __init__(self, videos: Videos, *, form: ClipForm, seed: int, fixed: bool) -> None:
        self.videos = videos
        self.form = form
        self.seed = seed
        self.fixed = fixed

    def __len__(self) -> int:
        return len(self.videos.labels)

    def __getitem__(self, item: tuple[int, int]) -> ClipSample:
        """Cut the clip of `(epoch, video)`, (1, 3, T, S, S)."""
        epoch, video = (0, item[1]) if self.fixed else item
        view = _VAL_VIEW if self.fixed else 0
        draws = random_draws(self.seed, epoch=epoch, video=video, view=view, count=4)
        pixels, crop = self.videos.pixels[video], self.form.crop  # (3, F, side, side)
        span = self.form.spans[int(draws[3] * len(self.form.spans))]
        rooms = (pixels.shape[1] - span, pixels.shape[2] - crop, pixels.shape[3] - crop)
        start, top, left = (int(draw * (room + 1)) for draw, room in zip(draws[:3], rooms, strict=True))
        stride = span // self.form.clip_len
        clip = pixels[:, start : start + span : stride, top : top + crop, left : left + crop]
        return ClipSample(clip.clone()[None], int(self.videos.labels[video]), video)


def clip_loader(videos: Videos, *, form: ClipForm, batch: int, seed: int, training: bool) -> "DataLoader[ClipBatch]":
    """Load clips in this process; training leaves out the last, smaller batch, which no norm has seen."""
    sampler = EpochSampler(len(videos.labels), batch=batch, seed=seed, shuffle=training, drop_last=training)
    clips = MemoryClips(videos, form=form, seed=seed, fixed=not training)
    return DataLoader(clips, batch_sampler=sampler, collate_fn=ClipBatch.collate)  # type: ignore[arg-type]


def cut_test_clips(videos: Videos, *, form: ClipForm, num_clips: int) -> Tensor:
    """Cut the clips of the test out of the middle of the picture, (V, K, 3, T, S, S)."""
    num_frames, side = videos.pixels.shape[2:4]
    first = (side - form.crop) // 2
    starts = test_starts(num_frames, num_clips=num_clips, span=form.spans[0], rule="linspace")
    indices = frame_indices(starts, clip_len=form.clip_len, span=form.spans[0], num_frames=num_frames)  # (K, T)
    square = videos.pixels[..., first : first + form.crop, first : first + form.crop]
    return torch.stack([square[:, :, torch.from_numpy(clip)] for clip in indices], dim=1)
