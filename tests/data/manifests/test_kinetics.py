"""Kinetics annotation files, and the layouts in which people keep the videos."""

import os
from pathlib import Path

import pytest

from vidgn.data.manifests.manifest import Manifest

from .files import touch

CSV = """label,youtube_id,time_start,time_end,split
riding a bike,-3B32lodo2M,59,69,val
abseiling,abcdefghijk,0,10,val
riding a bike,_0123456789,100,110,val
"""
NAMES = ["-3B32lodo2M_000059_000069", "abcdefghijk_000000_000010", "_0123456789_000100_000110"]


def read(root: Path, text: str = CSV, **options: object) -> Manifest:
    (root / "val.csv").write_text(text)
    return Manifest.from_kinetics_csv(root / "val.csv", root=root, **options)  # type: ignore[arg-type]


def rows(manifest: Manifest) -> list[tuple[str, int]]:
    return [(manifest.video_id(i), manifest.label(i)) for i in range(len(manifest))]


@pytest.mark.parametrize(
    ("folders", "layout"),
    [
        (("", "", ""), "ID.mp4"),
        (("riding a bike/", "abseiling/", "riding a bike/"), "CLASS/ID.mp4"),
        (("riding_a_bike/", "abseiling/", "riding_a_bike/"), "CLASS/ID.mp4"),
        (("val/", "val/", "val/"), "val/ID.mp4"),
        (("val/riding a bike/", "val/abseiling/", "val/riding a bike/"), "val/CLASS/ID.mp4"),
        (
            ("validate/riding_a_bike/", "validate/abseiling/", "validate/riding_a_bike/"),
            "validate/CLASS/ID.mp4",
        ),
        (("val_256/riding_a_bike/", "val_256/abseiling/", "val_256/riding_a_bike/"), "val_256/CLASS/ID.mp4"),
        (("videos/", "videos/", "videos/"), "videos/ID.mp4"),
        (("videos/val/", "videos/val/", "videos/val/"), "videos/val/ID.mp4"),
        (
            ("videos_val/riding a bike/", "videos_val/abseiling/", "videos_val/riding a bike/"),
            "videos_val/CLASS/ID.mp4",
        ),
    ],
)
def test_videos_are_found_in_the_usual_layouts(tmp_path: Path, folders: tuple[str, ...], layout: str) -> None:
    names = [f"{folder}{name}.mp4" for folder, name in zip(folders, NAMES, strict=True)]
    manifest = read(touch(tmp_path, *names), split="val")
    assert manifest.classes == ("abseiling", "riding a bike")
    assert rows(manifest) == list(zip(names, [1, 0, 1], strict=True))
    assert manifest.missing() == []
    assert manifest.notes == (f"videos found: {layout} (3)",)


def test_other_suffixes_are_found(tmp_path: Path) -> None:
    touch(tmp_path, f"{NAMES[0]}.mkv", f"{NAMES[1]}.webm", f"{NAMES[2]}.MP4", f"{NAMES[2]}.txt")
    assert read(tmp_path).missing() == []


def test_a_missing_video_gets_the_name_that_the_others_suggest(tmp_path: Path) -> None:
    touch(tmp_path, f"videos_val/abseiling/{NAMES[1]}.mp4", f"videos_val/riding_a_bike/{NAMES[0]}.mp4")
    assert read(tmp_path, split="val").missing() == [f"videos_val/riding_a_bike/{NAMES[2]}.mp4"]


def test_with_no_video_at_all_every_name_is_missing(tmp_path: Path) -> None:
    manifest = read(tmp_path)
    assert manifest.missing() == [f"{name}.mp4" for name in NAMES]
    assert manifest.notes == ("videos found: none",)


def test_each_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"class {i % 4},id{i:09d},0,10,val" for i in range(200)]
    touch(tmp_path, *(f"val/class_{i % 4}/id{i:09d}_000000_000010.mp4" for i in range(200)))
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    manifest = read(tmp_path, "\n".join([CSV.split("\n")[0], *lines]), split="val")
    assert manifest.video_id(199) == "val/class_3/id000000199_000000_000010.mp4"
    assert len(listed) == len(set(listed)) < 25  # not a question per file


def test_only_the_rows_of_the_split_are_kept_but_all_name_classes(tmp_path: Path) -> None:
    manifest = read(tmp_path, CSV + "zumba,zzzzzzzzzzz,0,10,train\n", split="val")
    assert len(manifest) == 3
    assert manifest.classes == ("abseiling", "riding a bike", "zumba")
    assert manifest.notes[0] == "1 rows of other splits are left out"
    with pytest.raises(ValueError, match=r"has no row of split 'test'; it has \{'val': 3\}"):
        read(tmp_path, split="test")


def test_validate_is_another_word_for_val(tmp_path: Path) -> None:
    assert len(read(tmp_path, CSV.replace(",val", ",validate"), split="val")) == 3


def test_given_classes_number_the_labels(tmp_path: Path) -> None:
    assert read(tmp_path, classes=["riding a bike", "zumba", "abseiling"]).labels.tolist() == [0, 2, 0]
    with pytest.raises(ValueError, match=r"1 row is wrong:\n  row 3: label 'abseiling' is not one of the 1 classes"):
        read(tmp_path, classes=["riding a bike"])


def test_more_columns_quotes_a_bom_and_crlf_are_read(tmp_path: Path) -> None:
    text = '\ufeff"label","youtube_id","time_start","time_end","split","is_cc"\r\n"a, b",x,1,2,val,0\r\n'
    manifest = read(tmp_path, text)
    assert rows(manifest) == [("x_000001_000002.mp4", 0)]
    assert manifest.classes == ("a, b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 videos in"),
        (
            "youtube_id,time_start,time_end,split\nx,0,10,test\n",
            "has no column label: some copies of the Kinetics test",
        ),
        (
            "a.mp4 3\n",
            r"must begin with the header label,youtube_id,time_start,time_end,split; it begins with \['a",
        ),
        (CSV + "a,b,0\n", "row 5: 3 columns, the header has 5"),
        (CSV + ",b,0,10,val\n", "row 5: no label"),
        (CSV + "a,,0,10,val\n", "row 5: no youtube_id"),
        (
            CSV + "a,../b,0,10,val\n",
            "row 5: label 'a' or youtube_id '../b' holds a character that no file name",
        ),
        (CSV + "a,b,x,10,val\n", "row 5: time_start 'x' and time_end '10' must be seconds"),
        (CSV + "a,b,20,10,val\n", "row 5: time_start 20 must be 0 or more and less than time_end 10"),
        (CSV + 'a,"b,0,10,val\n', "row 5: unexpected end of data"),
        (
            CSV + "abseiling,-3B32lodo2M,59,69,val\n",
            "row 5: -3B32lodo2M_.* has label 'abseiling' here and 'riding a",
        ),
    ],
)
def test_a_wrong_annotation_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_all_wrong_rows_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 rows are wrong:\n  row 5: .*\n  row 6: "):
        read(tmp_path, CSV + "a,b,0\n,b,0,10,val\n")


class TestFromTheRootAlone:
    @pytest.mark.parametrize("name", ["val.csv", "annotations/val.csv", "validate.csv", "kinetics400_val.csv"])
    def test_the_annotation_file_is_found(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CSV)
        assert len(Manifest.from_kinetics(tmp_path, split="val")) == 3

    def test_a_path_label_list_is_read_as_such(self, tmp_path: Path) -> None:
        (tmp_path / "kinetics400_val_list_videos.txt").write_text("a.mp4 1\n")
        (tmp_path / "names.txt").write_text("x\ny\n")
        manifest = Manifest.from_kinetics(tmp_path, split="val", classes_file=tmp_path / "names.txt")
        assert rows(manifest) == [("a.mp4", 1)]
        assert manifest.classes == ("x", "y")

    def test_a_named_annotation_file_and_class_names_are_used(self, tmp_path: Path) -> None:
        (tmp_path / "my.csv").write_text(CSV)
        (tmp_path / "names.txt").write_text("riding a bike\nabseiling\n")
        manifest = Manifest.from_kinetics(
            tmp_path, split="val", annotation=tmp_path / "my.csv", classes_file=tmp_path / "names.txt"
        )
        assert manifest.labels.tolist() == [0, 1, 0]

    def test_without_any_the_names_that_are_looked_for_are_listed(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"of split 'val' in .*; looked for val\.csv, kinetics400_val\.csv"):
            Manifest.from_kinetics(tmp_path, split="val")
