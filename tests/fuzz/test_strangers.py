"""Files of strangers that are almost right: a whole one, in which a few values are others, gone or of another kind.

VIDGN_FUZZ_SECONDS is for all of `tests/fuzz`; see `test_readers`. A failure prints its smallest example.
"""

import copy
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from vidgn.checkpoints.description import Description
from vidgn.data.manifests.shards import read_shards
from vidgn.data.passports.passport import VideoFacts, read_passport
from vidgn.report.read_run import read_run

from .test_readers import fuzz

SECONDS = float(os.environ.get("VIDGN_FUZZ_SECONDS", "4")) / 2

DESCRIPTION = {
    "format": 1, "classes": ["sit", "run"], "model": {"name": "i3d", "depth": 50, "width": 8, "dropout": 0.5},
    "norm": {"name": "gn", "num_groups": 4, "eps": 1e-5}, "clip": {"clip_len": 8, "span": 16}, "crop": 32,
    "normalize": {"mean": [0.45] * 3, "std": [0.225] * 3},
    "test": {"num_clips": 10, "num_crops": 3, "clip_rule": "linspace", "view_batch": 8},
    "data": {"name": "folder", "root": "/v", "backend": "pyav", "num_workers": 2}, "versions": {"torch": "2"},
    "config": "a: 1", "words": ["a=1"], "job": {"batch": 8, "optim": {"drops": [1, 2]}},
    "split": {"seed": 0, "before": "", "train": "AAAA"},
}  # fmt: skip
RUN = {
    "config.yaml": {"clip_len": 8, "batch": 4, "norm": {"name": "gn"}, "data": {"name": "motions", "root": None,
                    "train": 2, "seed": 0}, "log": {"percentiles": "conv"}},
    "metrics.json": {"video_top1": 50.0, "video_top5": 90.0, "clip_top1": 40.0, "videos_scored": 2,
                     "videos_expected": 2, "protocol": "10 clips"},
    "metrics.csv": [["epoch", "step", "train/error", "train/loss", "lr-SGD"], ["0", "1", "50", "0.5", "0.1"]],
    "predictions.csv": [["video", "label", "class1", "score1", "error"], ["a.mp4", "run", "run", "0.9", ""]],
}  # fmt: skip
INDEX = {
    "words": {"names": ["a.mp4", "b.mp4"], "shards": ["train-0.tar"], "classes": ["run"]}, "labels": [0, 0],
    "shard": [0, 0], "starts": [512, 2048], "sizes": [100, 100], "shard_sizes": [10240],
}  # fmt: skip
PASSPORT = VideoFacts(
    id="a.mp4", path="/v/a.mp4", label="v", bytes=1, mtime=1, sha256="00", codec="h264", width=64, height=48,
    rotation=0, fps=25.0, frames_promised=10, frames=10, duration=0.4, status="ok",
)._asdict()  # fmt: skip

VALUES = st.one_of(
    st.sampled_from([
        None, True, -1, 0, 1, 2**31, 2**63, 10**30, -(10**18), 0.5, 1e300, float("nan"), float("inf"), "", "x" * 5_000,
        "gn", "\x1b[2J", "\udc80", "$x$", "../../etc", "NaN", "1e9", "é", [], {}, [[]], [None], {"name": []},
    ]),
    st.integers(), st.floats(), st.text(max_size=4), st.lists(st.integers(-3, 3), max_size=3),
)  # fmt: skip
# Where (drawn numbers that lead down from the top), and what: another value, or none at all.
CHANGES = st.lists(
    st.tuples(st.lists(st.integers(0, 40), min_size=1, max_size=4), VALUES, st.booleans()), min_size=1, max_size=3
)


def changed(whole: Any, changes: list[tuple[list[int], object, bool]]) -> Any:
    """Return a copy with some values replaced or removed, each at a place that is there."""
    whole = copy.deepcopy(whole)
    for numbers, value, is_removed in changes:
        part: Any = whole
        for depth, number in enumerate(numbers):
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            if not keys:
                break
            key = keys[number % len(keys)]
            if depth == len(numbers) - 1 or not isinstance(part[key], dict | list):
                if is_removed:
                    del part[key]
                else:
                    part[key] = copy.deepcopy(value)  # the next change may be inside it
                break
            part = part[key]
    return whole


def sentence(read: Callable[[], object]) -> str:
    """Return the message of a refusal, which is one line and not long; nothing where it was read."""
    message = ""
    try:
        read()
    except ValueError as err:
        message = str(err) or "(an error without a message)"
    assert len(message) < 1_500
    assert "\n" not in message
    assert message != "(an error without a message)"
    return message


def read_description(folder: Path, changes: Any) -> None:
    """What is read can be written again and is the same."""
    plain = changed(DESCRIPTION, changes)
    if sentence(lambda: Description.from_plain(plain)):
        return
    found = Description.from_plain(plain)
    assert Description.from_plain(found.to_plain()) == found
    assert 1 <= found.clip_len <= found.span
    assert found.shared().job is None


def read_folder(folder: Path, changes: Any) -> None:
    for name, content in changed(RUN, changes).items():
        if isinstance(content, list) and all(isinstance(row, list) for row in content) and name.endswith(".csv"):
            text = "\n".join(",".join(map(str, row)) for row in content)
        else:
            text = json.dumps(content, default=str)  # YAML, too
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    message = sentence(lambda: read_run(folder))
    assert not message or str(folder) in message


def read_index(folder: Path, changes: Any) -> None:
    (folder / "train-0.tar").write_bytes(bytes(10240))
    content = changed(INDEX, changes)
    arrays = {}
    for name, value in content.items():
        if name == "words":
            arrays[name] = np.frombuffer(json.dumps(value).encode(), np.uint8)
            continue
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError):
            return  # numpy writes no such array
        if array.dtype == object:
            return
        arrays[name] = array
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (folder / "train-index.npz").write_bytes(buffer.getvalue())
    message = sentence(lambda: read_shards(str(folder), split="train"))
    if not message:
        found = read_shards(str(folder), split="train")
        assert all(start >= 0 and start + size <= 10240
                   for start, size in zip(found.starts, found.sizes, strict=True))  # fmt: skip


def read_rows(folder: Path, changes: Any) -> None:
    (folder / "p.jsonl").write_text(json.dumps(changed(PASSPORT, changes)) + "\n")
    message = sentence(lambda: read_passport(folder / "p.jsonl"))
    assert not message or "p.jsonl is not a vidgn passport" in message


TARGETS = {
    "descriptions": read_description, "run folders": read_folder, "shard indexes": read_index, "passports": read_rows,
}  # fmt: skip


@pytest.mark.timeout(60 + 3 * SECONDS)
@pytest.mark.parametrize("name", TARGETS)
def test_a_file_that_is_almost_right_is_read_whole_or_answered_by_a_sentence(tmp_path: Path, name: str) -> None:
    assert fuzz(TARGETS[name], CHANGES, folder=tmp_path, seconds=SECONDS / len(TARGETS)) > 0
