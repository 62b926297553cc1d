"""Rows of Kinetics annotation files, read many at a time and one by one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidgn.data.manifests import rows
from vidgn.data.manifests.kinetics_rows import Annotations

HEADER = "label,youtube_id,time_start,time_end,split"


def read(file: Path, text: str, words: tuple[str, ...] | None = None) -> tuple[object, ...]:
    """Read a file; return its rows (label, name, line), how many rows each split has, and its errors."""
    file.write_bytes(text.encode())
    found = Annotations(file, words=words)
    names = list(found.labels)
    rows = [
        (names[label], stem, row)
        for block in found.blocks
        for label, stem, row in zip(block.labels.tolist(), block.stems, block.rows.tolist(), strict=True)
    ]
    errors = sorted(found.errors.errors)
    return rows, dict(found.splits), errors, [] if errors else sorted(names)  # a file with errors is refused


@pytest.mark.slow
def test_ordinary_rows_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Annotations, "_read_singly", None)
    text = (
        "\ufeffsplit,label,youtube_id,time_start,time_end\r\nval,riding a bike,-x,59,69\r\ntrain,größe,é,007,000008\r\n"
    )
    assert read(tmp_path / "a.csv", text, ("val",)) == (
        [("riding a bike", "-x_000059_000069", 2)],
        {"val": 1, "train": 1},
        [],
        ["größe", "riding a bike"],
    )


@pytest.mark.slow
def test_a_row_that_is_not_ordinary_keeps_its_place(tmp_path: Path) -> None:
    lines = [f"class {i % 9},v{i:05d},{i % 50},60,val" for i in range(3000)]
    lines[1000] = " class 1\t, v01000 ,10.0,6e1,val"
    lines[2000] = ""
    rows, splits, errors, _ = read(tmp_path / "a.csv", "\n".join([HEADER, *lines]))
    assert errors == []
    assert splits == {"val": 2999}
    expected = [(f"class {i % 9}", f"v{i:05d}_{i % 50:06d}_000060", i + 2) for i in range(3000)]
    expected[1000] = ("class 1", "v01000_000010_000060", 1002)
    del expected[2000]
    assert rows == expected


@pytest.mark.slow
def test_a_header_after_blank_rows_is_the_header(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", f"\n \n{HEADER}\na,b,1,2,val\n")[0] == [("a", "b_000001_000002", 4)]


def test_numbers_are_small(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\na,b,1,2,val\n")
    (block,) = Annotations(tmp_path / "a.csv").blocks
    assert (block.labels.dtype, block.rows.dtype) == (np.int32, np.int32)


FIELDS = st.sampled_from(
    [
        "٣",
        "val",
        "train",
        '"q"',
        '"q',
        "\0",
        "\r",
        "run",
        "a b",
        "é",
        " x",
        "x ",
        "\u2028",
        "\x0c",
        ".x",
        "/",
        "",
        "7",
        "12",
        "007",
        "1e2",
        "3.0",
        "-1",
        "1000000",
    ]
)
ROWS = st.lists(st.lists(FIELDS, min_size=4, max_size=6).map(",".join), max_size=4)
GOOD = st.builds("run,{},{},{},val".format, st.sampled_from("xyz"), st.integers(0, 9), st.integers(0, 99))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(ROWS, st.lists(st.one_of(GOOD, GOOD, ROWS.map("\n".join)), max_size=6)), st.sampled_from(["\n", "\r\n"])
)
def test_what_is_read_at_once_is_what_is_read_singly(tmp_path: Path, lines: list[str], end: str) -> None:
    text = end.join([HEADER, *lines])
    both = read(tmp_path / "a.csv", text, ("val",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Annotations, "_read_ordinary", lambda *_: False)
        assert both == read(tmp_path / "a.csv", text, ("val",))
        patch.setattr(rows, "_PIECE_ROWS", 1)
        assert both == read(tmp_path / "a.csv", text, ("val",))
