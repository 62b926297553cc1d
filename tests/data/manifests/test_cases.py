"""The awkward lists of the field, one row each: what we make of them, right row or right error."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgn.data.manifests.classes import LabelIndex
from vidgn.data.manifests.fast_rows import OrdinaryRows
from vidgn.data.manifests.lists import split_row
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.manifests.rows import BadRow, RowsBuilder, clean_name

Expected = list[tuple[str, int]] | str

# pytorchvideo 0.1.5 is silently wrong in the thirteen cases that are marked: a wrong label or path, or a lost row.
CASES: dict[str, tuple[bytes, Expected]] = {
    "plain": (b"a.mp4 3\nb.mp4 4\n", [("a.mp4", 3), ("b.mp4", 4)]),
    "BOM": (b"\xef\xbb\xbfa.mp4 3\n", [("a.mp4", 3)]),
    "CRLF": (b"a.mp4 3\r\nb.mp4 4\r\n", [("a.mp4", 3), ("b.mp4", 4)]),
    "comma": (b"a.mp4,3\n", [("a.mp4", 3)]),
    "quoted comma path": (b'"a,b.mp4",3\n', [("a,b.mp4", 3)]),
    "space in path": (b"my clip.mp4 3\n", [("my clip.mp4", 3)]),
    "space in path, no label": (b"my clip.mp4\n", r"row 1: no label in 'my clip\.mp4'"),
    "header row": (b"path label\na.mp4 3\n", [("a.mp4", 3)]),
    "blank line inside": (b"a.mp4 3\n\nb.mp4 4\n", [("a.mp4", 3), ("b.mp4", 4)]),
    "missing label": (b"a.mp4\nb.mp4 4\n", r"row 1: no label in 'a\.mp4'"),
    "label out of range": (b"a.mp4 99999\n", r"row 1: label 99999 is not in 0\.\.399"),
    "negative label": (b"a.mp4 -7\n", r"row 1: label -7 is not in 0\.\.399"),
    "float label": (b"a.mp4 3.0\n", r"row 1: label '3\.0' is not an integer"),
    "string label": (b"a.mp4 abseiling\n", r"row 1: label 'abseiling' is not an integer; give data.classes"),
    "empty file": (b"", r"0 videos in"),
    "only newline": (b"\n", r"0 videos in"),
    "duplicate rows": (b"a.mp4 3\na.mp4 3\n", [("a.mp4", 3), ("a.mp4", 3)]),
    "contradicting labels": (b"a.mp4 3\na.mp4 4\n", r"row 2: 'a\.mp4' has label 4 here and 3 in row 1"),
    "path traversal": (b"../../../etc/passwd 3\n", r"row 1: the path '\.\./.*' leaves the root"),
    "absolute with prefix": (b"/etc/passwd 3\n", r"row 1: the path '/etc/passwd' leaves the root"),
    "NUL byte": (b"a\x00.mp4 3\n", r"row 1: .* holds a NUL byte"),
    "latin1 bytes": (b"caf\xe9.mp4 3\n", r"row 1: not UTF-8 \(byte 0xe9 at column 4\)"),
    "U+2028 in path": ("a\u2028b.mp4 3\n".encode(), [("a\u2028b.mp4", 3)]),
    "form feed in path": (b"a\x0cb.mp4 3\n", [("a\x0cb.mp4", 3)]),
    "tab": (b"a.mp4\t3\n", [("a.mp4", 3)]),
    "extra column": (b"a.mp4 10 3\n", r"row 1: 3 columns in 'a\.mp4 10 3'"),
    "Kinetics official csv": (
        b"label,youtube_id,time_start,time_end,split\nabseiling,-3B32lodo2M,59,69,train\n",
        r"is a Kinetics annotation file .*from_kinetics_csv",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_awkward_list_has_a_right_answer_or_a_right_error(tmp_path: Path, name: str) -> None:
    data, expected = CASES[name]
    (tmp_path / "m.csv").write_bytes(data)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            Manifest.from_list(tmp_path / "m.csv", root=tmp_path, num_classes=400)
        return
    manifest = Manifest.from_list(tmp_path / "m.csv", root=tmp_path, num_classes=400)
    assert [(manifest.video_id(i), manifest.label(i)) for i in range(len(manifest))] == expected
    repeats = ("1 rows repeat an earlier row (row 2 repeats row 1)",)
    assert manifest.notes == (repeats if name == "duplicate rows" else ())


def test_the_kinetics_file_is_right_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(CASES["Kinetics official csv"][0])
    manifest = Manifest.from_kinetics_csv(tmp_path / "m.csv", root=tmp_path)
    assert manifest.video_id(0) == "-3B32lodo2M_000059_000069.mp4"
    assert manifest.classes == ("abseiling",)


def test_there_are_the_twenty_seven_cases() -> None:
    assert len(CASES) == 27


def test_wrong_rows_among_ordinary_ones_are_all_named_by_their_number(tmp_path: Path) -> None:
    lines = [f"my class/v{i:05d}.mp4 {i % 9}" for i in range(3000)]
    lines[700], lines[2222], lines[2999] = "a.mp4 -1", "../b.mp4 3", "c\0.mp4 3"
    (tmp_path / "m.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"3 rows are wrong:\n  row 701: .*\n  row 2223: .*\n  row 3000: .*NUL"):
        Manifest.from_list(tmp_path / "m.txt", root=tmp_path, num_classes=9)


def test_rows_that_are_not_ordinary_keep_their_place(tmp_path: Path) -> None:
    lines = [f"my class/v{i:05d}.mp4 {i % 9}" for i in range(3000)]
    lines[1000] = "./my class//v01000.mp4   1"
    (tmp_path / "m.txt").write_text("\n".join(lines))
    manifest = Manifest.from_list(tmp_path / "m.txt", root=tmp_path, num_classes=9)
    assert [manifest.video_id(i) for i in range(3000)] == [f"my class/v{i:05d}.mp4" for i in range(3000)]
    assert manifest.labels.tolist() == [i % 9 for i in range(3000)]


WORDS = st.sampled_from(
    ["a", "é", ".mp4", ".", "/", " ", ",", "\t", '"', "\r", "\x0c", "7", "12", "/data/", "run", "\0"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=9).map("".join), st.sampled_from([" ", ",", "\t"]), st.booleans())
def test_what_is_read_at_once_is_what_is_read_singly(line: str, separator: str, named: bool) -> None:
    names = ("run", "a", "7 run", *map(str, range(13))) if named else None
    labels = LabelIndex(names, None if named else 13)
    builder = RowsBuilder("list")
    line = f"{line}{separator}7"
    if list(OrdinaryRows(separator, root="/data", labels=labels).read(1, line.encode(), builder=builder)):
        return  # left to the way that reads row by row
    found = builder.finish(("x",) * 13)
    try:
        path, label = split_row(line.removesuffix("\r"), separator=separator, labels=labels)
        expected = (clean_name(path, root="/data"), labels(label))
    except BadRow as err:
        raise AssertionError(f"{line!r} was read as {found}, singly it is an error: {err}") from err
    assert (found.names.tobytes().decode(), int(found.labels[0])) == expected
