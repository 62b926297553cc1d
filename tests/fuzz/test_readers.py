"""Any bytes and words: a reader gives something whole or one sentence that names what was given.

VIDGN_FUZZ_SECONDS is how long all of it takes together: `.ci/run` gives it 60, and other inputs every time but where CI
is set, so that a change is not blamed for what it did not do; without it the same inputs are tried for 4 seconds. A
failure prints its smallest example, which becomes a case of `tests/test_bad_inputs.py`.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vidgn.data.manifests.classes import read_classes
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.passports.passport import read_passport
from vidgn.report.read_run import read_run
from vidgn.runs.command_line import check_words

SECONDS = float(os.environ.get("VIDGN_FUZZ_SECONDS", "4"))
FIXED = "VIDGN_FUZZ_SECONDS" not in os.environ or "CI" in os.environ
CLASSES = ("run", "jump", "sit down")

CELLS = st.sampled_from([
    "a.mp4", "run/a.mp4", "0", "2", "3", "-1", "1.0", "run", "sit down", "/etc/passwd", "..", "../b", ".", "~", "é",
    "\u2028", "\ufeff", "\0", "label", "youtube_id", "time_start", "time_end", "split", "train", "-qU_3hd6XN0", "10",
])  # fmt: skip
JOINTS = st.sampled_from([" ", ",", "\t", "\n", "\r\n", '"', "\x0c", "\\", "#", ";"])
LISTS = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(CELLS, JOINTS), max_size=40).map(lambda parts: "".join(parts).encode()),
    st.lists(st.lists(CELLS, min_size=1, max_size=4).map(" ".join), max_size=8).map(lambda r: "\n".join(r).encode()),
    st.lists(st.lists(CELLS, min_size=4, max_size=6).map(",".join), max_size=8).map(
        lambda r: ("label,youtube_id,time_start,time_end,split\n" + "\n".join(r)).encode()
    ),
)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from([*CLASSES, "id", ""]), inner, max_size=4)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([
    "clip_len", "batch", "norm", "norm.groups", "data", "data.root", "optim.lr", "model.width", "trainer.max_steps",
    "seed", "resume", "preset", "hydra.run.dir", "", "nrm", "a.b.c", "+x", "++x", "~norm", "norm@x", "data/x", "é",
])  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([
        "8", "-1", "gn", "null", "true", "1e3", "[1,2]", "{a: 1}", "${seed}", "${oc.env:HOME}", "${", "'", '"', "[1,",
        "!!python/name:os.system", "choice(1,2)", "range(3)", "1,2", "\\", "$x", "",
    ]),
    st.text(max_size=8),
)  # fmt: skip
YAML = st.lists(
    st.sampled_from([
        "clip_len: 8\n", "batch: ", "norm: gn\n", "data: {name: x}\n", "!!python/object/apply:os.mkdir [x]\n", "&a ",
        "*a\n", "- 1\n", "<<: ", "[", "}", "${x}", "a: ${", "'", "|\n", "? ", "\t", "%YAML 3\n", "---\n", "é", "\0",
    ]),
    max_size=12,
).map("".join)  # fmt: skip
T = TypeVar("T")


def attempt(read: Callable[[], T]) -> tuple[T | None, str]:
    """Return what was read, or the sentence; any other error is a failure."""
    try:
        return read(), ""
    except ValueError as err:
        return None, str(err)


def read_list(folder: Path, data: bytes) -> None:
    """Rows lie inside the root and have a class; or the message names the file."""
    (folder / "list.csv").write_bytes(data)
    for read in (
        lambda: Manifest.from_list(folder / "list.csv", root=folder, classes=CLASSES),
        lambda: Manifest.from_kinetics_csv(folder / "list.csv", root=folder),
    ):
        found, message = attempt(read)
        if found is None:
            assert f"{folder}/list.csv" in message
            continue
        names = [found.video_id(row) for row in range(len(found))]
        assert names
        assert not [name for name in names if name.startswith(("/", "../")) or name == ".." or "\0" in name]
        assert all(0 <= found.label(row) < len(found.classes) for row in range(len(found)))


def read_names(folder: Path, data: bytes) -> None:
    """Class names differ and none is empty; or the message names the file."""
    for name in ("classes.txt", "classes.json"):
        (folder / name).write_bytes(data)
        found, message = attempt(lambda file=folder / name: read_classes(file))
        assert name in message if found is None else found and all(found) and len(set(found)) == len(found)


def read_rows(folder: Path, data: bytes) -> None:
    """A file that is no passport is called so."""
    (folder / "a.jsonl").write_bytes(data)
    found, message = attempt(lambda: read_passport(folder / "a.jsonl"))
    assert found is not None or "a.jsonl is not a vidgn passport" in message


def read_config(folder: Path, data: bytes) -> None:
    """A run folder has words, or the message names its file."""
    (folder / "config.yaml").write_bytes(data)
    found, message = attempt(lambda: read_run(folder))
    assert f"{folder}/config.yaml" in message if found is None else "clip_len" in found.config


def read_words(folder: Path, words: list[str]) -> None:
    """Words are known, or the message is a sentence."""
    _, message = attempt(lambda: check_words("train", words))
    assert not message or len(message) > 10
    assert "Traceback" not in message


TARGETS = {
    "lists": (read_list, LISTS),
    "classes": (read_names, st.one_of(LISTS, PLAIN.map(lambda value: json.dumps(value).encode()))),
    "passports": (read_rows, LISTS | st.lists(PLAIN.map(json.dumps), max_size=3).map("\n".join).map(str.encode)),
    "configs": (read_config, st.one_of(st.binary(max_size=60), YAML.map(str.encode))),
    "words": (read_words, st.lists(st.one_of(st.tuples(NAMES, VALUES).map("=".join), VALUES), max_size=3)),
}  # fmt: skip


@pytest.mark.timeout(60 + 3 * SECONDS)
@pytest.mark.parametrize("name", TARGETS)
def test_any_input_is_read_whole_or_answered_by_a_sentence(tmp_path: Path, name: str) -> None:
    read, inputs = TARGETS[name]
    share = 1 / 2 if name == "words" else 1 / 2 / (len(TARGETS) - 1)  # composing a configuration takes a second
    assert fuzz(read, inputs, folder=tmp_path, seconds=share * SECONDS) > 0


def fuzz(
    read: Callable[[Path, object], None], inputs: st.SearchStrategy[object], *, folder: Path, seconds: float
) -> int:
    """Try inputs until the time is over; return how many were tried."""
    end, tried = time.monotonic() + seconds, 0

    @settings(
        max_examples=10**6, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck), derandomize=FIXED,
    )  # fmt: skip
    @given(inputs)
    def try_one(data: object) -> None:
        nonlocal tried
        if tried and time.monotonic() > end:  # the first one takes long on a busy machine
            raise _OverError
        read(folder, data)
        tried += 1

    with suppress(_OverError):
        try_one()
    print(f"{tried} inputs")
    return tried


class _OverError(BaseException):
    """The time is over."""


def test_a_reader_that_fails_is_found(tmp_path: Path) -> None:
    def read(folder: Path, data: object) -> None:
        assert data != b"", "an empty file"

    with pytest.raises(AssertionError, match="an empty file"):
        fuzz(read, LISTS, folder=tmp_path, seconds=60)
