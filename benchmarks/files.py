"""The video files that the data benchmarks read, and the machine they run on."""

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone need not be installed

import av
import numpy as np

SIZES = ((340, 256), (426, 240))


def make_files(folder: Path, *, sources: str | None, count: int) -> list[Path]:
    """Write Kinetics-like files once: 10 s at 30 fps, H.264, 250-frame GOPs, B-frames, from real pictures if given."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["arm_wrestling_340x256_28fps.mp4", "flipping_a_pancake.mkv", "nasa_13013.mp4", "mpeg4_320x240.avi"]
    real = [Path(sources) / "clips" / name for name in names] if sources else []
    made = []
    for number in range(count):
        width, height = SIZES[number % 2]
        kind = "real" if real else "drawn"
        target = folder / kind / f"{number}_{width}x{height}.mp4"
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            pictures = _real(real[number % len(real)], number) if real else _drawn(number, height, width)
            _encode(target, pictures, width, height)
        made.append(target)
    return made


def machine() -> str:
    names = {}
    for name in ("torch", "torchvision", "av", "decord", "pytorchvideo", "torchcodec", "numpy"):
        try:
            names[name] = version(name)
        except PackageNotFoundError:
            names[name] = "not installed"
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "?")  # noqa: SIM115
    return (
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in names.items())
    )


def _encode(target: Path, pictures: Iterable[av.VideoFrame], width: int, height: int) -> None:
    part = target.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"g": "250", "bf": "3", "crf": "23", "preset": "medium"}
        stream.codec_context.gop_size = 250
        for picture in pictures:
            small = picture.reformat(width=width, height=height, format="yuv420p")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(small.to_ndarray(), format="yuv420p")))
        container.mux(stream.encode())
    shutil.move(part, target)


def _real(source: Path, number: int) -> Iterable[av.VideoFrame]:
    """Yield 300 pictures of a real clip, forwards and backwards, from another place for each number."""
    with av.open(str(source)) as container:
        frames = list(container.decode(container.streams.video[0]))
    there_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    return (frames[there_and_back[(number * 37 + i) % len(there_and_back)]] for i in range(300))


def _drawn(number: int, height: int, width: int) -> Iterable[av.VideoFrame]:
    """Yield 300 pictures of a texture that moves, with grain."""
    rng = np.random.default_rng(number)
    big = rng.integers(0, 256, (height // 8 + 80, width // 8 + 80, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for i in range(300):
        top, left = int(160 + 150 * np.sin(i / 40)), int(160 + 150 * np.cos(i / 23))
        grain = rng.normal(0, 4, (height, width, 3))
        picture = np.clip(big[top : top + height, left : left + width] + grain, 0, 255).astype(np.uint8)
        yield av.VideoFrame.from_ndarray(picture, format="rgb24")
