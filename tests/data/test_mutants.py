"""Damaged copies of videos in eight codecs, through the real loader with two workers.

60 copies by default; VIDGN_MUTANTS=500 makes 500. Each is decoded or in the ledger, and no worker crashes or hangs.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgn.curation.scan import scan, verify
from vidgn.data.batches import ClipBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.faults.quarantine import Quarantine
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.transforms import CropSpec
from vidgn.data.video import open_video

from .conftest import write_video

COUNT = int(os.environ.get("VIDGN_MUTANTS", "60"))
FRAMES = 32
QUIET = {"x265-params": "log-level=none", "preset": "ultrafast"}
CODECS = {
    "h264.mp4": {"options": {"crf": "12"}},
    "hevc.mp4": {"codec": "libx265", "options": QUIET},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "av1.mkv": {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "lp=1"}},
}
KINDS = ("flip", "bytes", "hole", "cut", "splice", "header")


def mutate(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    damaged, size = bytearray(data), len(data)
    at = int(rng.integers(size))
    if kind == "flip":
        damaged[at] ^= 1 << int(rng.integers(8))
    elif kind == "bytes":
        for place in rng.integers(size, size=100):
            damaged[place] = int(rng.integers(256))
    elif kind == "hole":
        damaged[at : at + 1024] = bytes(len(damaged[at : at + 1024]))
    elif kind == "cut":
        del damaged[max(at, 1) :]
    elif kind == "splice":
        there = int(rng.integers(size))
        damaged[at:at] = damaged[there : there + 512]
    else:
        tables = data.find(b"moov")
        first, last = (tables, min(size, tables + 4096)) if tables >= 0 else (0, min(size, 1024))
        for place in rng.integers(first, last, size=8):
            damaged[place] = int(rng.integers(256))
    return bytes(damaged)


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good files (g_*) and of their damaged copies (m_*)."""
    root, rng = tmp_path_factory.mktemp("mutants"), np.random.default_rng(4)
    names = list(CODECS)
    for name, options in CODECS.items():
        write_video(root / f"g_{name}", frames=FRAMES, width=128, height=96, **options)  # type: ignore[arg-type]
    for number in range(COUNT):
        name = names[number % len(names)]
        kind = KINDS[number // len(names) % len(KINDS)]
        data = (root / f"g_{name}").read_bytes()
        (root / f"m_{number:03d}_{kind}_{name}").write_bytes(mutate(data, kind, rng))
    return root


def read_all(root: Path, names: list[str], ledger: Path) -> dict[int, torch.Tensor]:
    """Return the clip of each video that could be read; a clip holds all frames of a video."""
    manifest = Manifest.from_rows([(name, 0) for name in names], root=root, classes=["x"])
    data = ClipDataset(
        manifest, clip=ClipSpec(FRAMES, FRAMES), crop=CropSpec(84), seed=0, flip=False, stream="train",
        quarantine=Quarantine(ledger, num_videos=len(names), max_share=1.0), deadline_seconds=20,
    )  # fmt: skip
    sampler = EpochSampler(len(data), batch=4, seed=0, shuffle=False)
    loader = VideoLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=2, timeout=100)
    order, found = 0, {}
    for batch in loader:
        for clip, video in zip(batch.clips, batch.videos.tolist(), strict=True):
            if video == order:  # not a substitute
                found[video] = clip
            order += 1
    assert order == len(names)
    return found


def test_every_mutant_is_decoded_or_in_the_ledger(mutants: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in mutants.iterdir())
    read = read_all(mutants, names, tmp_path / "ledger.jsonl")
    rows = Quarantine(tmp_path / "ledger.jsonl", num_videos=1).rows()
    bad = {row.video for row in rows}
    assert {names[i] for i in read} | bad == set(names)
    assert {names[i] for i in read} & bad == set()
    assert all(row.error for row in rows)
    assert not any(row.error.startswith("decoding took longer") for row in rows)
    assert {name for name in names if name.startswith("g_")} & bad == set()
    print(f"\n{len(names) - len(CODECS)} mutants: {len(bad)} in the ledger", Counter(n.split("_")[2] for n in bad))


def damaged_frames(path: Path, truth: list[np.ndarray]) -> bool | None:
    """Tell whether a file is read without an error and yet shows something else; None where it is an error."""
    try:
        with open_video(path) as video:
            frames = [frame for _, frame in video.frames(range(len(video)))]
    except VideoDecodeError:
        return None
    if len(frames) != len(truth):
        return True
    return any(not np.array_equal(mine, theirs) for mine, theirs in zip(frames, truth, strict=True))


def test_at_most_a_tenth_of_h264_mutants_is_silently_damaged(mutants: Path, decode_all) -> None:
    silent = count = 0
    truth = decode_all(mutants / "g_h264.mp4")
    for path in sorted(mutants.glob("m_*_h264.mp4")):
        count += 1
        silent += damaged_frames(path, truth) is True
    print(f"\nH.264: {silent} of {count} mutants silently damaged")
    assert count >= COUNT // 8
    assert silent <= 0.1 * count


def test_verify_reports_every_mutant(mutants: Path, tmp_path: Path) -> None:
    changed = 0
    for path in sorted(mutants.glob("m_*")):
        good = (mutants / f"g_{path.name.split('_', 3)[3]}").read_bytes()
        (tmp_path / path.name).write_bytes(good)
        changed += good != path.read_bytes()
    scan(tmp_path, tmp_path / "p.jsonl")
    for path in sorted(mutants.glob("m_*")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(verify(tmp_path / "p.jsonl")) == changed
