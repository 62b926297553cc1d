"""A dry run: `trainer=dry`. Two full-size steps, a test of two videos, and what the whole run would take."""

import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from vidgn.data.dataset import ClipDataset
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.synthetic.motions import write_video
from vidgn.data.transforms import Normalize
from vidgn.data.views import ViewDataset
from vidgn.models.net import VideoNet
from vidgn.models.registry import build_net
from vidgn.models.summary import summarize
from vidgn.norms import is_norm
from vidgn.optim import build_optimizer
from vidgn.runs.config import MISSING, DrySpec, RunConfig
from vidgn.runs.defaults import check_task, fill_clip, fill_standardization
from vidgn.runs.manifests import find_videos, usable
from vidgn.terminal.console import say
from vidgn.training.dry_estimate import STEP_COST, CostEstimate, Job, estimate_cost, estimate_record, needed_cores

_CPU_SHARE = 0.3  # of the rate of matrix products that a training step reaches on a CPU; seen: 0.2 to 0.5
MADE_CLASSES = 400  # of the net, where there is no data
MADE_SIZE = (256, 340, 300)  # height, width (px) and frames of a made video: Kinetics at short side 256, 10 s


class Measured(NamedTuple):
    """What was seen here. Times are medians in seconds: of a step, of a view in the test, of one core reading."""

    device: str
    step_seconds: float
    view_seconds: float
    peak_gib: float
    read_seconds: float  # one training clip
    view_read_seconds: float  # one view of the test
    views_per_video: int
    loss: float  # of the last step


def dry_run(config: RunConfig, dry: DrySpec) -> dict[str, Any]:
    """Measure a few steps of a run and estimate the whole of it; `dry.json` has the same numbers.

    Raises:
        ValueError: an option is out of its range, as in training; the task is not videos.
        VideoDecodeError: one of the videos that are read is damaged.
    """
    check_task(config.task.name, config.data.name)
    if config.task.name != "video":
        raise ValueError(f"trainer=dry measures videos; task={config.task.name} has none: leave out trainer=dry.")
    config = fill_standardization(fill_clip(config))
    half = "16" in str(config.trainer.precision)
    say("dry run: looking for the videos ...")
    with _videos(config, dry) as videos:
        job = _job(config, videos)
        say(_plan(config, dry, job))
        found = _measure(config, dry, videos)
        job = job._replace(test_views=videos.num_test * found.views_per_video)
    wanted = {key: value for key, value in asdict(dry).items() if key in _PREDICTED_FOR}
    prediction = estimate_cost(
        job, **wanted, half=half, read_seconds=found.read_seconds, test_read_seconds=found.view_read_seconds
    )
    record = {
        "measured": found._asdict(),
        "job": job._asdict(),
        "words": wanted,
        "predicted": estimate_record(prediction),
    }
    (config.folder / "dry.json").write_text(json.dumps(record, indent=1) + "\n")
    say(_text(config, dry, found, job, prediction))
    return record


_PREDICTED_FOR = ("gpu", "gpus", "cores", "utilization", "dollars")


class _Videos(NamedTuple):
    manifest: Manifest
    num_train: int
    num_test: int
    num_classes: int


@contextmanager
def _videos(config: RunConfig, dry: DrySpec) -> Iterator[_Videos]:
    """Find the user's videos, or make some where data.root is not given."""
    if config.data.root != MISSING:
        found = find_videos(config.data)
        train = usable(found)["train"]
        yield _Videos(train, len(train), len(found["test"]), len(train.classes))
        return
    with tempfile.TemporaryDirectory() as folder:
        height, width, num_frames = MADE_SIZE
        grain = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
        picture = np.kron(grain, np.ones((4, 4, 1), np.uint8))
        frames = np.stack([np.roll(picture, 2 * shift, axis=1) for shift in range(num_frames)])
        write_video(Path(folder) / "made.mp4", frames)
        for place in (Path(folder) / split / label for split in ("train", "val") for label in ("one", "two")):
            place.mkdir(parents=True)
            for number in range(math.ceil(dry.videos / 2)):
                os.link(Path(folder) / "made.mp4", place / f"{number}.mp4")
        manifest = Manifest.from_folder(folder, split="train")
        yield _Videos(manifest, dry.train_videos, dry.test_videos, MADE_CLASSES)


def _measure(config: RunConfig, dry: DrySpec, videos: _Videos) -> Measured:
    """Train for some steps on random clips, then read and test some videos."""
    device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
    clip, crop, view = config.clip, config.crop_spec, config.view
    count = min(dry.videos, len(videos.manifest))
    clips = ClipDataset(videos.manifest, clip=clip, crop=crop, seed=config.seed, flip=False, stream="train")
    views = ViewDataset(
        videos.manifest,
        clip=clip,
        crop=crop,
        num_clips=view.num_clips,
        num_crops=view.num_crops,
        rule=view.clip_rule,
        strict=True,
    )
    net = _net(config, videos.num_classes).to(device)
    steps, loss = _steps(net, config, dry, device=device, num_classes=videos.num_classes)
    read, view_read, scored, per_video = [], [], [], 0
    for video in range(count):
        read.append(_seconds(partial(clips.__getitem__, (0, video))))
        began = time.perf_counter()
        item = views[video]
        pixels = list(item.views())
        per_video = len(pixels)
        view_read.append((time.perf_counter() - began) / per_video)
        seconds = _score(net, pixels, device=device, chunk=config.view_batch)
        scored.append(seconds / per_video)
        say(f"video {video + 1} of {count}: {per_video} views scored in {seconds:.1f} s")
    return Measured(
        device=_device_name(device),
        step_seconds=median(steps), view_seconds=median(scored), peak_gib=_peak_gib(device),
        read_seconds=median(read), view_read_seconds=median(view_read), views_per_video=per_video, loss=loss,
    )  # fmt: skip


def _net(config: RunConfig, num_classes: int) -> VideoNet:
    model, norm = config.model.plain(), config.norm.plain()
    return build_net(model=model, norm=norm, crop=config.crop_spec.crop, num_classes=num_classes)


def _steps(
    net: VideoNet, config: RunConfig, dry: DrySpec, *, device: torch.device, num_classes: int
) -> tuple[list[float], float]:
    """Train on random clips; return the seconds of each step but the first, and the last loss."""
    count, side, clip_len = dry.steps, config.crop_spec.crop, config.clip.clip_len
    if count < 1:
        raise ValueError(f"trainer.dry.steps ({count}) must be at least 1; 2 are enough.")
    optimizer, schedule = build_optimizer(
        net, config.optim, clips_per_step=config.batch * dry.gpus, total_steps=count + 1, is_norm=is_norm
    )
    normalize = Normalize().to(device)
    clips = torch.randint(0, 256, (config.batch, 3, clip_len, side, side), dtype=torch.uint8).to(device)
    labels = torch.arange(config.batch, device=device) % num_classes
    net.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> float:
        optimizer.zero_grad()
        with _precision(config.trainer.precision, device):
            loss = F.cross_entropy(net(normalize(clips)).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        return float(loss.detach())  # waits for the device

    losses: list[float] = []
    seconds: list[float] = []
    for number in range(1, count + 2):
        seconds.append(_seconds(lambda: losses.append(step())))
        say(f"step {number} of {count + 1}: {seconds[-1]:.1f} s{' (not counted)' if number == 1 else ''}")
    return seconds[1:], losses[-1]


@torch.inference_mode()
def _score(net: VideoNet, views: Sequence[torch.Tensor], *, device: torch.device, chunk: int) -> float:
    """Score the views of a video as the test does; return the seconds."""
    net.eval()
    normalize = Normalize().to(device)

    def score() -> None:
        for first in range(0, len(views), chunk):
            net.scores(normalize(torch.stack(list(views[first : first + chunk])).to(device))).cpu()

    return _seconds(score)


def _job(config: RunConfig, videos: _Videos) -> Job:
    """Count what the whole run does, on torch's meta device."""
    with torch.device("meta"):
        net = _net(config, videos.num_classes)
    clip_len, crop = config.clip.clip_len, config.crop_spec
    train = summarize(net, clip_len=clip_len, side=crop.crop)
    test = summarize(net, clip_len=clip_len, side=crop.test_side)
    return Job(
        train_clips=config.epochs * videos.num_train,
        test_views=videos.num_test * config.view.num_views,
        macs=sum(stage.macs for stage in train),
        test_macs=sum(stage.macs for stage in test),
        activation_bytes=4 * sum(stage.activations for stage in train),
        parameter_bytes=4 * sum(stage.parameters for stage in train),
        batch=config.batch,
    )


def _plan(config: RunConfig, dry: DrySpec, job: Job) -> str:
    """Say what a dry run does before it begins, and on a CPU about how long that takes."""
    num_views = config.view.num_views
    macs = STEP_COST * (dry.steps + 1) * config.batch * job.macs + dry.videos * num_views * job.test_macs
    text = (
        f"dry run: {dry.steps + 1} steps of {config.batch} clips, then {dry.videos} videos of {num_views} "
        f"views: {macs / 1e12:.2f} T multiply-adds"
    )
    if torch.cuda.is_available() and config.trainer.accelerator != "cpu":
        return text
    minutes = macs / (_CPU_SHARE * _matmul_rate()) / 60
    return f"{text}, about {max(1, round(minutes))} min on this CPU; a smaller batch or trainer.dry.steps=1 is shorter"


def _matmul_rate() -> float:
    """Return the multiply-adds per second of matrix products here, which convolutions reach a part of."""
    side = 512
    matrix = torch.randn(side, side)
    return side**3 / min(_seconds(lambda: matrix @ matrix) for _ in range(5))


def _text(config: RunConfig, dry: DrySpec, found: Measured, job: Job, expected: CostEstimate) -> str:
    clips, rate = config.batch, config.batch / found.step_seconds
    fit = "fits" if expected.fits else f"does NOT fit into a {dry.gpu}: take a smaller batch"
    cores = needed_cores(expected, read_seconds=found.read_seconds)
    hours = expected.hours + expected.test_hours
    lines = [
        f"net {config.model.name} with {config.norm.name}: {job.parameter_bytes / 4e6:.2f} M parameters, "
        f"{job.macs / 1e9:.2f} G multiply-adds per training clip, {job.test_macs / 1e9:.2f} G per view",
        f"here ({found.device}): {found.step_seconds:.2f} s per step of {clips} clips ({rate:.2f} clips/s), "
        f"{found.view_seconds:.2f} s per view, peak memory {found.peak_gib:.1f} GiB, loss {found.loss:.2f}",
        f"reading: {1 / found.read_seconds:.1f} clips/s and {1 / found.view_read_seconds:.1f} views/s per core",
        f"the run: {job.train_clips:,} clips in {math.ceil(job.train_clips / (clips * dry.gpus)):,} steps of "
        f"{dry.gpus} x {clips}, then {job.test_views:,} views",
        f"on {dry.gpus} x {dry.gpu} at {dry.utilization:.0%} of its peak (assumed): {expected.net_rate:.0f} "
        f"clips/s; {dry.cores} cores read {expected.read_rate:.0f}/s",
        f"limit: {expected.limit} ({cores} cores read as fast as the net)",
        f"memory: {expected.memory:.1f} GiB per GPU by counting; {fit}",
        f"expected: {expected.hours:.1f} h training + {expected.test_hours:.1f} h test = {hours:.1f} h, "
        f"about ${expected.dollars:,.0f}",
    ]
    return "\n".join(lines)


def _precision(precision: str | int | None, device: torch.device) -> torch.autocast:
    word = str(precision)
    dtype = torch.bfloat16 if "bf16" in word else torch.float16
    return torch.autocast(device.type, dtype, enabled="16" in word)


def _peak_gib(device: torch.device) -> float:
    """Return the most memory so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
