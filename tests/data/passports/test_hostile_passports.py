"""A passport of a stranger opens no file but videos below one folder, and is not larger in memory than its rows."""

import json

import pytest

from vidgn.curation.scan import verify
from vidgn.data.passports.passport import VideoFacts, read_passport

ROW = VideoFacts(
    id="run/a.mp4", path="/videos/run/a.mp4", label="run", bytes=1, mtime=1, sha256="00", codec="h264", width=64,
    height=48, rotation=0, fps=25.0, frames_promised=10, frames=10, duration=0.4, status="ok",
)  # fmt: skip


def passport(tmp_path, *rows):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "row",
    [
        ROW._replace(id="passwd", path="/etc/passwd"),
        ROW._replace(id="etc/passwd", path="/etc/passwd"),
        ROW._replace(id="../me/private.mp4", path="/videos/../me/private.mp4"),
        ROW._replace(id="b.mp4", path="/elsewhere/c.mp4"),
        ROW._replace(id="b.mp4", path="/elsewhere/b.mp4"),  # of another folder than the first row
    ],
)
def test_no_file_but_the_videos_of_one_folder_is_opened(tmp_path, monkeypatch, row):
    monkeypatch.setattr("vidgn.curation.scan.inspect", lambda *args, **options: pytest.fail("a file was opened"))
    with pytest.raises(ValueError, match=r"p\.jsonl names .*, which is not a video below .*; nothing was opened"):
        verify(passport(tmp_path, ROW, row))


def test_no_file_outside_the_folder_that_is_given_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("vidgn.curation.scan.inspect", lambda *args, **options: pytest.fail("a file was opened"))
    with pytest.raises(ValueError, match=rf"which is not a video below {tmp_path}"):
        verify(passport(tmp_path, ROW), root=str(tmp_path))
    (tmp_path / "link").symlink_to("/videos")
    path = str(tmp_path / "link" / "run" / "a.mp4")
    with pytest.raises(ValueError, match="which is not a video below"):
        verify(passport(tmp_path, ROW._replace(path=path)), root=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 1}, "has id 1; it must be text"),
        ({"path": "x" * 5_000}, "has path of 5,000 characters"),
        ({"bytes": -1}, "has bytes -1"),
        ({"width": 10**30}, "has width"),
        ({"frames": "10"}, "has frames '10'"),
        ({"fps": float("nan")}, "has fps nan"),
        ({"duration": [1]}, r"has duration \(list\)"),
        ({"status": None}, r"has status \(none\)"),
    ],
)
def test_a_cell_of_another_kind_is_one_sentence(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"p\.jsonl is not a vidgn passport \({message}.*make one with vidgn scan"):
        read_passport(passport(tmp_path, ROW._replace(**changes)))


@pytest.mark.parametrize("line", ["[" * 100_000, "[1]", "{", "7", '{"id": 1}', "9" * 5_000])
def test_a_line_that_is_no_row_is_one_sentence(tmp_path, line):
    (tmp_path / "p.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"p\.jsonl is not a vidgn passport") as caught:
        read_passport(tmp_path / "p.jsonl")
    assert len(str(caught.value)) < 500


def test_a_parquet_file_of_few_bytes_is_no_bomb(tmp_path):
    """A million times the same text is one text in the file; it is not made a million texts in memory."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), ["x" * 100_000])
    columns = {name: [value] * 1_000_000 for name, value in ROW._asdict().items() if name in ("bytes", "fps")}
    parquet.write_table(pa.table({"id": names, **columns}), tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").stat().st_size < 2_000_000
    with pytest.raises(ValueError, match=r"p\.parquet is not a vidgn passport \(it has id of 100,000 characters\)"):
        read_passport(tmp_path / "p.parquet")


def test_a_parquet_file_with_too_many_rows_is_refused_before_they_are_read(tmp_path, monkeypatch):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("vidgn.data.passports.passport.MAX_ROWS", 10)
    parquet.write_table(pa.Table.from_pylist([ROW._asdict()] * 11), tmp_path / "p.parquet")
    with pytest.raises(ValueError, match=r"it has 11 rows and .* at most 10 are read"):
        read_passport(tmp_path / "p.parquet")
    monkeypatch.undo()
    assert read_passport(tmp_path / "p.parquet") == [ROW] * 11
