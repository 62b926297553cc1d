"""The other ways from a file to a clip, each as its users write it, on one thread."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.torchcodec import load_torchcodec
from vidgn.data.transforms import Box, scaled_size

TEST_SIDE = 256


class Task(NamedTuple):
    """Frames of a clip, raw frames it covers, clips per video: 1 is training, 10 the test."""

    clip_len: int
    span: int
    num_clips: int


class Draw(NamedTuple):
    """What is read of one file: frames int64 (K,T), the size to resize to, the crop of it, mirrored or not.

    `cut` is height and width of the crop in stored pixels.
    """

    frames: np.ndarray
    size: tuple[int, int]
    box: Box
    flip: bool
    cut: tuple[int, int]


Peer = Callable[[Sequence[Path], Task, Sequence[Draw]], int]


def pyav_loop(files: Sequence[Path], task: Task, draws: Sequence[Draw]) -> int:
    """Seek to the key before the clip and decode on, converting only what is wanted; the test is one pass."""
    for path, draw in zip(files, draws, strict=True):
        wanted = set(draw.frames.ravel().tolist())
        found: dict[int, np.ndarray] = {}
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.thread_count = "NONE", 1
            rate, base = stream.average_rate, stream.time_base
            container.seek(round(min(wanted) / rate / base), stream=stream)
            for frame in container.decode(stream):
                number = round((frame.pts - (stream.start_time or 0)) * base * rate)
                if number in wanted:
                    found[number] = frame.to_ndarray(format="rgb24")
                    if len(found) == len(wanted):
                        break
        _finish(np.stack([found[i] for i in sorted(found)]), task, draw)
    return len(files) * task.num_clips


def decord_batch(files: Sequence[Path], task: Task, draws: Sequence[Draw]) -> int:
    """`get_batch` of the clip, then resize; the test reads each distinct frame once."""
    import decord

    for path, draw in zip(files, draws, strict=True):
        video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        _finish(video.get_batch(np.unique(draw.frames)).asnumpy(), task, draw)
    return len(files) * task.num_clips


def mmaction(files: Sequence[Path], task: Task, draws: Sequence[Draw]) -> int:
    """mmaction2's order: DecordInit, SampleFrames, DecordDecode (all indices), Resize to 256, crop, resize, flip.

    Re-created with decord (mmaction/datasets/transforms/loading.py, processing.py; I3D's configuration). The resize
    is torch's without antialias, frame by frame, in place of OpenCV's.
    """
    import decord

    for path, draw in zip(files, draws, strict=True):
        video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        frames = list(video.get_batch(draw.frames.ravel()).asnumpy())
        size = scaled_size(*frames[0].shape[:2], short_side=256)
        frames = [_imresize(frame, size) for frame in frames]
        if task.num_clips == 1:
            top, left, side, _ = draw.box
            top, left = min(top, size[0] - side), min(left, size[1] - side)
            frames = [_imresize(frame[top : top + side, left : left + side], (224, 224)) for frame in frames]
            if draw.flip:
                frames = [np.flip(frame, axis=1) for frame in frames]
        clip = np.stack(frames).reshape(task.num_clips, task.clip_len, *frames[0].shape)
        np.ascontiguousarray(clip.transpose(0, 4, 1, 2, 3))
    return len(files) * task.num_clips


def pytorchvideo(files: Sequence[Path], task: Task, draws: Sequence[Draw]) -> int:
    """`LabeledVideoDataset` with its own samplers and PyAV; transforms of torchvision, since its own do not import."""
    from pytorchvideo.data import LabeledVideoDataset, make_clip_sampler

    sides = iter([draw for draw in draws for _ in range(task.num_clips)])

    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        video = sample["video"]  # float32 (3,T,H,W) of every frame in the window
        places = torch.linspace(0, video.shape[1] - 1, task.clip_len).long()
        clip = video[:, places].permute(1, 0, 2, 3)
        draw = next(sides)
        if task.num_clips > 1:
            sample["video"] = F.resize(clip, TEST_SIDE, antialias=True)
            return sample
        top, left, side, _ = draw.box
        sample["video"] = F.resize(clip, list(draw.size), antialias=True)[..., top : top + side, left : left + side]
        return sample

    seconds = task.span / 30
    kind = ("random", seconds) if task.num_clips == 1 else ("constant_clips_per_video", seconds, task.num_clips)
    sampler = make_clip_sampler(*kind)
    paths = [(str(path), {"label": 0}) for path in files]
    data = LabeledVideoDataset(
        paths, sampler, video_sampler=torch.utils.data.SequentialSampler, transform=transform, decode_audio=False
    )
    return sum(1 for _ in data)


def torchcodec(files: Sequence[Path], task: Task, draws: Sequence[Draw]) -> int:
    """`VideoDecoder.get_frames_at` of the distinct frames in one call, exact seeks, then resize.

    Its own default, NCHW, and torchvision's resize: both are faster than NHWC and than its decoder's `Resize`.
    """
    for path, draw in zip(files, draws, strict=True):
        video = _open_torchcodec(path, seek_mode="exact")
        _finish_nchw(video.get_frames_at(np.unique(draw.frames).tolist()).data, task, draw)
    return len(files) * task.num_clips


def torchcodec_approximate(files: Sequence[Path], task: Task, draws: Sequence[Draw]) -> int:
    """The same with approximate seeks: the file is not scanned, and frame i is where a constant rate puts it."""
    for path, draw in zip(files, draws, strict=True):
        video = _open_torchcodec(path, seek_mode="approximate")
        _finish_nchw(video.get_frames_at(np.unique(draw.frames).tolist()).data, task, draw)
    return len(files) * task.num_clips


def torchcodec_clips(files: Sequence[Path], task: Task, draws: Sequence[Draw]) -> int:
    """Its clip samplers; in training its decoder cuts the crop out of each frame, and one resize makes it 224.

    The start of a training clip is the drawn one (the sampling range holds nothing else) and the size of the cut too;
    its corner is `RandomCrop`'s own. The test has the sampler's own starts: the last clip ends with the video.
    """
    from torchcodec.samplers import clips_at_random_indices, clips_at_regular_indices
    from torchcodec.transforms import RandomCrop

    spacing = task.span // task.clip_len
    for path, draw in zip(files, draws, strict=True):
        if task.num_clips > 1:
            video = _open_torchcodec(path, seek_mode="exact")
            clips = clips_at_regular_indices(
                video,
                num_clips=task.num_clips,
                num_frames_per_clip=task.clip_len,
                num_indices_between_frames=spacing,
            ).data
            F.resize(clips.flatten(0, 1), TEST_SIDE, antialias=True).unflatten(0, clips.shape[:2]).transpose(1, 2)
            continue
        video = _open_torchcodec(path, seek_mode="exact", transforms=[RandomCrop(draw.cut)])
        start = int(draw.frames[0, 0])
        clip = clips_at_random_indices(
            video,
            num_frames_per_clip=task.clip_len,
            num_indices_between_frames=spacing,
            sampling_range_start=start,
            sampling_range_end=start + 1,
        ).data[0]
        clip = F.resize(clip, [draw.box.height, draw.box.width], antialias=True)
        (clip.flip(-1) if draw.flip else clip).transpose(0, 1)
    return len(files) * task.num_clips


def floor(path: Path, frames: np.ndarray) -> int:
    """Decode just the packets that the clips need and throw the pictures away.

    Which packets those are is known beforehand, and unwanted pictures that no other refers to are passed over.
    """
    runs, needed = floor_plan(path, frames)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        context = stream.codec_context
        for number, packet in enumerate(container.demux(stream)):
            if number > runs[-1][1]:
                break
            if any(start <= number <= last for start, last in runs):
                context.skip_frame = "DEFAULT" if number in needed else "NONREF"
                context.decode(packet)
    return len(frames)


_PLANS: dict[tuple[str, tuple[int, ...]], tuple[list[tuple[int, int]], set[int]]] = {}


def floor_plan(path: Path, frames: np.ndarray) -> tuple[list[tuple[int, int]], set[int]]:
    """Learn which packets the frames need; asked before the clock runs, and remembered."""
    key = str(path), tuple(np.unique(frames).tolist())
    if key not in _PLANS:
        with PyavReader(key[0], num_threads=1, max_pixels=1 << 24) as video:
            runs = [(run.start, run.last) for run in video.index.runs(list(key[1]))]
            _PLANS[key] = runs, {video.index.order[frame] for frame in key[1]}
    return _PLANS[key]


def _finish(frames: np.ndarray, task: Task, draw: Draw) -> torch.Tensor:
    """Resize as torchvision's users do, cut and mirror; uint8 (U,H,W,3) -> (3,U,h,w)."""
    return _finish_nchw(torch.from_numpy(frames).permute(0, 3, 1, 2), task, draw)


def _finish_nchw(pixels: torch.Tensor, task: Task, draw: Draw) -> torch.Tensor:
    if task.num_clips > 1:
        return F.resize(pixels, TEST_SIDE, antialias=True).transpose(0, 1)
    top, left, side, _ = draw.box
    clip = F.resize(pixels, list(draw.size), antialias=True)[..., top : top + side, left : left + side]
    return (clip.flip(-1) if draw.flip else clip).transpose(0, 1)


def _open_torchcodec(path: Path, **options: Any) -> Any:
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(str(path), num_ffmpeg_threads=1, **options)


def _imresize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frame.shape[:2] == size:
        return frame
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
    return F.resize(pixels, list(size), antialias=False)[0].permute(1, 2, 0).numpy()


_ALL: dict[str, tuple[str, Peer]] = {
    "PyAV loop": ("av", pyav_loop),
    "decord": ("decord", decord_batch),
    "mmaction2 order": ("decord", mmaction),
    "pytorchvideo": ("pytorchvideo.data", pytorchvideo),
    "torchcodec": ("torchcodec.decoders", torchcodec),
    "torchcodec approx": ("torchcodec.decoders", torchcodec_approximate),
    "torchcodec clips": ("torchcodec.samplers", torchcodec_clips),
}


def skipped() -> dict[str, str]:
    """Say which peers are left out, and why."""
    return dict(_SKIPPED)


def _find() -> dict[str, Peer]:
    found: dict[str, Peer] = {}
    for name, (module, peer) in _ALL.items():
        try:
            importlib.import_module(module)
            if module.startswith("torchcodec"):
                load_torchcodec()  # it imports without FFmpeg too
        except Exception as err:  # a broken peer is left out by name, whatever it raises
            _SKIPPED[name] = f"{type(err).__name__}: {str(err).splitlines()[0][:120]}"
        else:
            found[name] = peer
    _SKIPPED["torchvision"] = "its video decoding was removed"
    return found


_SKIPPED: dict[str, str] = {}
PEERS = _find()
