"""Measure the memory that testing takes: short and long videos, few and many views.

    python benchmarks/views.py --json VIDEO

The packets of VIDEO (H.264 in mp4) are written again and again until a file plays for `--minutes`. Each row is a
process of its own that reads all views of one file, cuts them and scores them in groups of eight with a stand-in for
the net, so that nothing but reading and grouping takes memory. `growth` is the peak over what was in use before.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CASES = ((10, 32, 64), (10, 64, 128), (30, 64, 128), (100, 64, 128))  # clips, frames, span


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)  # clips, frames and span of this process
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.video, *options.one)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.mp4"
        lengthen(options.video, long, seconds=60 * options.minutes)
        for video in (options.video, long):
            for case in CASES:
                words = [sys.executable, __file__, str(video), "--one", *map(str, case)]
                row = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
                rows.append({"video": "short" if video == options.video else "long", **row})
                print(rows[-1], flush=True)
    if options.json:
        print(json.dumps({"rows": rows}))


def lengthen(source: Path, target: Path, *, seconds: float) -> None:
    """Write the packets of a video after one another until the file is long enough; nothing is encoded."""
    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = read.streams.video[0]
        copy = write.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.size]
        begin = min(packet.dts for packet in packets)
        length = max(packet.pts for packet in packets) - begin + packets[0].duration
        times = [(packet.pts - begin, packet.dts - begin) for packet in packets]
        for turn in range(int(seconds / float(length * stream.time_base)) + 1):
            for packet, (shown, decoded) in zip(packets, times, strict=True):
                packet.pts, packet.dts, packet.stream = shown + turn * length, decoded + turn * length, copy
                write.mux(packet)


def measure(video: Path, num_clips: int, clip_len: int, span: int) -> dict[str, int]:
    """Read and group all views of a video, three crops of 256 px; return counts and megabytes."""
    import torch

    from vidgn.data.clips import ClipSpec
    from vidgn.data.manifests.manifest import Manifest
    from vidgn.data.transforms import CropSpec
    from vidgn.data.video import open_video
    from vidgn.data.views import ViewDataset
    from vidgn.scores.scoring import ViewScorer

    data = ViewDataset(
        Manifest.from_rows([(video.name, 0)], root=video.absolute().parent, classes=["x", "y"]),
        clip=ClipSpec(clip_len, span), crop=CropSpec(), num_clips=num_clips, deadline_seconds=None, strict=True,
    )  # fmt: skip
    torch.set_num_threads(1)
    scorer = ViewScorer(lambda clips: torch.full((len(clips), 2), 0.5), group=8)
    before = _peak()
    with open_video(video) as reader:
        num_frames = len(reader)
    opened = _peak()
    for item in range(len(data)):
        for _ in scorer.add([data[item]]):
            pass
    (found,) = scorer.finish() if (num_clips * 3) % 8 else [None]
    assert found is None or found.views == 3 * num_clips
    return {
        "frames": num_frames, "clips": num_clips, "clip_len": clip_len, "pieces": data.num_pieces,
        "index_mb": opened - before, "growth_mb": _peak() - before,
    }  # fmt: skip


def _peak() -> int:
    """Return the most memory that this process had in use so far, in megabytes; Linux counts kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
