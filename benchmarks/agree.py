"""Does a back end give the frames of a plain decode? Files with drawn encoder settings, read in random windows.

    python benchmarks/agree.py [--backend torchcodec] [--files 150] [--seed 0]

A file is equal (every frame of 25 windows, bit for bit), refused when it is opened, refused when it is read, or
different, which ends with status 1 and the settings that made it.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone need not be installed

import av
import numpy as np

from vidgn.data.readers.types import Backend, VideoDecodeError
from vidgn.data.video import open_video

WINDOWS = 25
SUFFIXES = {"libvpx-vp9": ("webm", "mp4", "mkv")}
# Transport streams that are joined: milliseconds by which the second one is later than the first.
JOINED = {"joined at once": 0, "joined 13 ms later": 13, "joined 500 ms later": 500, "joined earlier": -700}
MUXINGS = (*JOINED, "times of decoding", "begins amid a group")


class Settings(NamedTuple):
    """How a file is written; `times` gives milliseconds of a frame, `muxing` is one of `MUXINGS`."""

    suffix: str
    codec: str
    pixels: str
    width: int
    height: int
    frames: int
    gop: int
    options: dict[str, str]
    container: dict[str, str]
    rotation: int | None
    times: Callable[[int], int] | None
    muxing: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="torchcodec")
    parser.add_argument("--files", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, found = random.Random(given.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.files):
            settings = draw(rng)
            path = Path(folder) / f"v.{settings.suffix}"
            try:
                write(path, settings)
            except (av.FFmpegError, OSError, ValueError):  # the encoder does not take these settings together
                found["not written"] += 1
                continue
            result = compare(path, given.backend, rng)
            found[result] += 1
            if result in ("different", "refused when read"):
                print(result, settings._replace(times=None), "uneven times" if settings.times else "")
    print(", ".join(f"{count} {name}" for name, count in found.most_common()))
    return int(found["different"] > 0)


def draw(rng: random.Random) -> Settings:
    codec = rng.choice(["libx264"] * 4 + ["libx265", "libvpx-vp9", "libsvtav1"])
    suffix, gop = rng.choice(SUFFIXES.get(codec, ("mp4", "mkv", "mov"))), rng.choice([1, 5, 12, 30, 250])
    width, height = rng.choice([16, 32, 64, 66, 96, 100, 126, 160, 318, 320, 322]), rng.choice([16, 34, 48, 64, 90])
    pixels = rng.choice(["yuv420p"] * 3 + ["yuv422p", "yuv444p"] + ["yuvj420p", "gray"] * (codec == "libx264"))
    if codec == "libsvtav1":
        width, height, pixels = max(width, 64), max(height, 64), "yuv420p"
    container, rotation, times = {}, None, None
    if suffix in ("mp4", "mov"):
        container = rng.choice([{}, {}, {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
        rotation = rng.choice([None, None, None, 90, 180, 270])
    if rng.random() < 0.3:
        jitter, gap, start = rng.choice([0, 15]), rng.choice([0, 500]), rng.choice([0, 10_000])
        times = lambda i: 40 * i + i % 3 * jitter + gap * (i > 20) + start  # noqa: E731
    frames, options = rng.choice([1, 2, 7, 36, 60]), _options(codec, gop, rng)
    muxing = rng.choice(["as encoded"] * 3 + [*MUXINGS])
    if muxing != "as encoded":
        rotation, times, container = None, None, {}
        suffix = "ts" if muxing in JOINED else suffix
    return Settings(suffix, codec, pixels, width, height, frames, gop, options, container, rotation, times, muxing)


def write(path: Path, settings: Settings) -> None:
    """Encode moving stripes, and mux them as drawn.

    Raises:
        ValueError: These packets cannot be muxed so.
    """
    if settings.muxing == "as encoded":
        encode(path, settings)
    elif settings.muxing in JOINED:
        if settings.codec not in ("libx264", "libx265"):
            raise ValueError("transport streams hold H.264 and HEVC here")
        parts = [path.with_name(f"part{number}.ts") for number in range(2)]
        for part, later in zip(parts, (0, JOINED[settings.muxing]), strict=True):
            encode(part, settings._replace(times=lambda i, later=later: 40 * i + 2000 + later))
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
    else:
        whole = path.with_name(f"whole.{settings.suffix}")
        encode(whole, settings)
        remux(whole, path, settings)


def remux(source: Path, target: Path, settings: Settings) -> None:
    """Copy packets with the times of decoding as those of showing, or without the first ones."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        packets = [packet for packet in old.demux(stream) if packet.size]
        if settings.muxing == "begins amid a group":
            packets = packets[min(3, len(packets) - 1) :]
            if not any(packet.is_keyframe for packet in packets):
                raise ValueError("no key packet is left")
        out = new.add_stream_from_template(stream)
        for number, packet in enumerate(packets):
            if settings.muxing == "times of decoding":
                packet.pts, packet.dts, packet.time_base = number, number, Fraction(1, 25)
            packet.stream = out
            new.mux(packet)


def encode(path: Path, settings: Settings) -> None:
    y, x = np.mgrid[0 : settings.height, 0 : settings.width]
    with av.open(str(path), "w", options=settings.container) as container:
        stream: Any = container.add_stream(settings.codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = settings.width, settings.height, settings.pixels
        stream.options = {"g": str(settings.gop)} | settings.options
        stream.codec_context.gop_size = settings.gop
        if settings.rotation is not None:
            stream.set_display_rotation(settings.rotation)
        if settings.times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(settings.frames):
            image = np.stack([3 * x + 4 * i, 2 * y + 3 * i, x + y + 11 * i], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if settings.times:
                frame.pts, frame.time_base = settings.times(i), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def compare(path: Path, backend: Backend, rng: random.Random) -> str:
    truth = plain_decode(path)
    try:
        video = open_video(path, backend=backend)
    except VideoDecodeError:
        return "refused when opened"
    with video:
        for _ in range(WINDOWS):
            steps = rng.randint(1, 8) * np.arange(rng.randint(1, 16))
            indices = (rng.randrange(400) + steps) % len(truth)
            try:
                frames = video.read(indices)
            except VideoDecodeError:
                return "refused when read"
            if not np.array_equal(frames, truth[indices]):
                return "different"
    return "equal" if len(video) == len(truth) else "different"


def plain_decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        frames = list(container.decode(stream))
        return np.stack(
            [np.rot90(f.to_ndarray(format="rgb24", interpolation="BILINEAR"), f.rotation // 90) for f in frames]
        )


def _options(codec: str, gop: int, rng: random.Random) -> dict[str, str]:
    open_gop, least = rng.randint(0, 1), rng.randint(1, max(1, gop // 2))
    if codec == "libx264":
        pyramid = rng.choice(["none", "normal", "strict"])
        words = f"bframes={rng.randint(0, 8)}:open-gop={open_gop}:b-pyramid={pyramid}:ref={rng.randint(1, 6)}"
        return {"x264-params": f"{words}:keyint={gop}:min-keyint={least}"}
    if codec == "libx265":
        words = f"log-level=none:bframes={rng.randint(0, 5)}:open-gop={open_gop}:keyint={gop}:min-keyint=1"
        return {"x265-params": words, "preset": "ultrafast"}
    if codec == "libvpx-vp9":
        return {"cpu-used": "8", "deadline": "realtime", "auto-alt-ref": str(open_gop), "lag-in-frames": "10"}
    return {"preset": "12", "svtav1-params": "lp=1"}


if __name__ == "__main__":
    sys.exit(main())
