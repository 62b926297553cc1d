"""Two copies of a data set, or a copy and a published list."""

import io
import json

import pytest

from vidgn.curation.scan import run_compare_passports
from vidgn.data.passports.compare import compare_passports, compare_with, describe_differences, pair, read_published
from vidgn.data.passports.passport import VideoFacts, write_passport


def facts(name: str, **changes: object) -> VideoFacts:
    row = VideoFacts(
        id=name, path=f"/data/{name}", label="run", bytes=10, mtime=1, sha256="a", codec="h264", width=340, height=256,
        rotation=0, fps=30.0, frames_promised=300, frames=300, duration=10.0, status="ok",
    )  # fmt: skip
    return row._replace(**changes)


def test_each_kind_of_difference_is_named():
    ours = [facts(name) for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "mine.mp4")]
    theirs = [
        facts("a.mp4"),
        facts("b.mp4", status="truncated", sha256="b"),
        facts("c.mp4", frames=299, sha256="c"),
        facts("d.mp4", label="jump"),
        facts("e.mp4", width=320, height=240, sha256="e"),
        facts("theirs.mp4"),
    ]
    found = compare_passports(ours, theirs)
    assert found == {
        "only in the first": ["mine.mp4"],
        "only in the second": ["theirs.mp4"],
        "bad in the first alone": [],
        "bad in the second alone": ["b.mp4"],
        "other class": ["d.mp4"],
        "other number of frames": ["c.mp4"],
        "other size": ["e.mp4"],
        "other file": ["b.mp4", "c.mp4", "e.mp4"],
    }
    assert compare_passports(theirs, ours)["bad in the first alone"] == ["b.mp4"]


def test_copies_in_other_folders_are_matched_by_file_names_that_stand_once():
    assert pair(["train/run/a.mp4", "x/b.mp4", "y/b.mp4"], ["a.webm", "b.mp4"]) == {"train/run/a.mp4": "a.webm"}
    assert pair(["a.mp4", "x/a.mp4"], ["a.mp4"]) == {"a.mp4": "a.mp4"}  # the whole name comes first
    assert pair(["-3B32lodo2M_000059_000069.mp4"], ["-3B32lodo2M_000059_000069"]) != {}


def test_a_name_that_is_listed_twice_is_one_video():
    assert pair(["x/a.mp4", "x/a.mp4"], ["y/a.mp4"]) == {"x/a.mp4": "y/a.mp4"}
    assert pair(["x/a.mp4"], ["y/a.mp4", "y/a.mp4"]) == {"x/a.mp4": "y/a.mp4"}
    assert pair(["x/a.mp4", "z/a.mp4", "x/a.mp4"], ["y/a.mp4"]) == {}  # two videos of one file name


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4\nmy b.mp4\n",
        "a.mp4 3\nmy b.mp4 17\n",
        'a.mp4,run\n"my b.mp4",riding a bike\n',
        "a.mp4\t3\r\nmy b.mp4\t4\r\n",
    ],
)
def test_a_published_list_may_have_labels(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    assert read_published(tmp_path / "list.txt") == ["a.mp4", "my b.mp4"]


def test_names_without_a_suffix_are_taken_whole(tmp_path):
    (tmp_path / "ids.txt").write_text("v_000001\nv_000002\n")
    assert read_published(tmp_path / "ids.txt") == ["v_000001", "v_000002"]


def test_a_published_kinetics_file_is_compared(tmp_path):
    text = "label,youtube_id,time_start,time_end,split\nrun,abcdefghijk,1,11,val\nrun,lost0000000,1,11,val\n"
    (tmp_path / "val.csv").write_text(text)
    rows = [facts("val/run/abcdefghijk_000001_000011.mp4", status="truncated"), facts("val/run/mine.mp4")]
    assert compare_with(rows, tmp_path / "val.csv") == {
        "only in the first": ["val/run/mine.mp4"],
        "only in the second": ["lost0000000_000001_000011"],
        "bad in the first": ["val/run/abcdefghijk_000001_000011.mp4"],
    }


def test_the_command_counts_and_names(tmp_path):
    first, second = str(tmp_path / "1.jsonl"), str(tmp_path / "2.jsonl")
    write_passport([facts(f"{i:02d}.mp4") for i in range(12)], first)
    write_passport([facts("00.mp4")], second)
    out = io.StringIO()
    assert run_compare_passports(first, second, out=out) == 1
    assert "       11 only in the first\n            01.mp4\n" in out.getvalue()
    assert "            and 1 more\n" in out.getvalue()
    out = io.StringIO()
    assert run_compare_passports(second, second, out=out, as_json=True) == 0
    assert not any(json.loads(out.getvalue()).values())


def test_only_passports_of_videos_that_are_ok_are_published(tmp_path):
    write_passport([facts("a.mp4"), facts("b.mp4", status="damaged")], tmp_path / "p.jsonl")
    assert read_published(tmp_path / "p.jsonl") == ["a.mp4"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"names no video; give a passport, a Kinetics csv or a list"):
        read_published(tmp_path / "empty.txt")


def test_the_text_names_both_files():
    assert describe_differences({"other file": ["a"]}, first="x", second="y").startswith("first: x\nsecond: y\n")
