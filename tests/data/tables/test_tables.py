"""Tables of videos: every form, every wrong row with its row and column, and the splits that are made of them."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vidgn.data.manifests.drawn_split import SplitRecord
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests
from vidgn.data.storage.excerpt import Excerpt
from vidgn.data.tables.videos import seconds_of

ROWS = [
    ("a/1.mp4", "run", "train"),
    ("a/2.mp4", "walk", "train"),
    ("b/3.mp4", "run", "val"),
    ("b/4.mp4", "sit", "test"),
]


def read(file, **options):
    return read_manifests(DataSpec("csv", file=str(file), **options))


def ids(manifest):
    return [manifest.video_id(row) for row in range(len(manifest))]


def labelled(manifests):
    return {
        split: [(m.video_id(row), m.classes[m.label(row)]) for row in range(len(m))] for split, m in manifests.items()
    }


WANTED = {
    "train": [("a/1.mp4", "run"), ("a/2.mp4", "walk")],
    "val": [("b/3.mp4", "run")],
    "test": [("b/4.mp4", "sit")],
}


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", " "])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_separator_is_found(tmp_path, separator, ending, mark):
    lines = [separator.join(row) for row in [("path", "label", "split"), *ROWS]]
    (tmp_path / "list.txt").write_bytes((mark + ending.join([*lines, "", ""])).encode())
    manifests = read(tmp_path / "list.txt")
    assert labelled(manifests) == WANTED
    assert manifests["train"].classes == ("run", "sit", "walk")
    assert manifests["train"].path(0) == str(tmp_path / "a/1.mp4")


def records():
    return [dict(zip(("path", "label", "split"), row, strict=True)) for row in ROWS]


def write_parquet(file, rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def test_json_json_lines_and_parquet_hold_the_same(tmp_path):
    (tmp_path / "list.json").write_text(json.dumps(records()))
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, records())) + "\n\n")
    write_parquet(tmp_path / "list.parquet", records())
    for name in ("list.json", "list.jsonl", "list.parquet"):
        assert labelled(read(tmp_path / name)) == WANTED


def test_columns_may_have_any_names_and_any_order(tmp_path):
    text = "n,what,where to,Partition\n" + "".join(f"{i},{b},{a},{c}\n" for i, (a, b, c) in enumerate(ROWS))
    (tmp_path / "list.csv").write_text(text)
    columns = {"path": "where to", "label": "what", "split": "partition"}
    assert labelled(read(tmp_path / "list.csv", columns=columns)) == WANTED


def test_columns_of_a_file_without_header_are_numbers(tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{a} 300 {b}\n" for a, b, _ in ROWS))  # mmaction2's frame lists
    manifests = read_manifests(
        DataSpec(
            "csv", train=str(tmp_path / "list.txt"), val=str(tmp_path / "list.txt"), columns={"path": 1, "label": 3}
        )
    )
    assert labelled(manifests)["train"] == [(a, b) for a, b, _ in ROWS]


def test_a_suffix_is_added_where_the_column_has_none(tmp_path):
    (tmp_path / "list.json").write_text(
        json.dumps([{"id": "78687", "template": "Holding"}, {"id": 9, "template": "Up"}])
    )
    columns = {"path": "id", "label": "template"}
    manifests = read_manifests(
        DataSpec("csv", test=str(tmp_path / "list.json"), columns=columns, suffix=".webm"), splits=("test",)
    )
    assert ids(manifests["test"]) == ["78687.webm", "9.webm"]


def test_segments_are_rows_of_their_own_and_stay_with_their_file(tmp_path):
    rows = [f"{i // 4}.mp4;c{i % 2};{i % 4};{i % 4 + 0.5}" for i in range(40)]
    (tmp_path / "list.csv").write_text("\n".join(["file;label;start;end", *rows]))
    manifests = read(tmp_path / "list.csv")
    assert sum(map(len, manifests.values())) == 40
    files = {split: {name.partition("#")[0] for name in ids(m)} for split, m in manifests.items()}
    assert not files["train"] & files["val"]
    assert not files["train"] & files["test"]
    assert not files["val"] & files["test"]
    row = manifests["train"].path(1)
    assert isinstance(row, Excerpt)
    assert row.file == str(tmp_path / ids(manifests["train"])[1].partition("#")[0])
    assert (row.segment.start, row.segment.end, row.segment.unit) == (1.0, 1.5, "seconds")
    assert ids(manifests["train"])[1].endswith("#t=1,1.5")


def test_times_may_be_clocks_and_empty_bounds_are_those_of_the_file(tmp_path):
    text = "path,label,start_timestamp,stop_timestamp\na.mp4,x,00:00:01.50,00:01:00\nb.mp4,y,,\nc.mp4,y,,3\n"
    (tmp_path / "list.csv").write_text(text)
    columns = {"start": "start_timestamp", "end": "stop_timestamp"}
    manifests = read_manifests(DataSpec("csv", test=str(tmp_path / "list.csv"), columns=columns), splits=("test",))
    assert ids(manifests["test"]) == ["a.mp4#t=1.5,60", "b.mp4", "c.mp4#t=,3"]
    assert not isinstance(manifests["test"].path(1), Excerpt)
    assert seconds_of("1:01:01") == 3661


def test_videos_that_are_missing_are_found_by_their_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "list.csv").write_text("path,label,start\na.mp4,x,1\nb.mp4,y,1\n")
    manifest = read_manifests(DataSpec("csv", test=str(tmp_path / "list.csv")), splits=("test",))["test"]
    assert manifest.missing() == ["b.mp4#t=1,"]
    assert ids(manifest.without_missing()[0]) == ["a.mp4#t=1,"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("path,label\na.mp4,x\n,y\n", {}, r"row 3: column path: the path '' names no file"),
        ("path,label\na.mp4,x\nb.mp4,\n", {}, r"row 3: column label: the label is empty"),
        ("path,label\n../a.mp4,x\n", {}, r"row 2: column path: the path '../a.mp4' leaves the root"),
        ("path,label,set\na.mp4,x,nope\n", {}, r"row 2: column set: 'nope' must be one of train, val, test"),
        ("path,label,start\na.mp4,x,soon\n", {}, r"row 2: column start: 'soon' must be a time in seconds"),
        ("path,label,start\na.mp4,x,-1\n", {}, r"row 2: column start: '-1' must be a time"),
        ("path,label,start,end\na.mp4,x,3,2\n", {}, r"row 2: column end: the segment 3 to 2 is empty"),
        (
            "path,label,start\na.mp4,x,1.5\n",
            {"unit": "frames"},
            r"row 2: column start: '1.5' must be the number of a frame",
        ),
        ("path,label\na.mp4,x,y\n", {}, r"row 2: 3 columns instead of 2: 'a.mp4,x,y'; quote cells that hold ','"),
        ("path,label\na.mp4\n", {}, r"row 2: 1 columns instead of 2"),
        ('path,label\na.mp4,x\n"b.mp4,y\n', {}, r"row 3: the quotes do not match"),
        ("path,label\na.mp4,x\na.mp4,y\n", {}, r"row 3: 'a.mp4' has label 1 here and 0 in row 2"),
        ("path,label\n", {}, r"0 videos in .*list.csv"),
        ("", {}, r"list.csv is empty"),
        (
            "a,b\n1,2\n",
            {},
            r"list.csv has the columns a, b: none of them is known to be the path; set data.columns.path=NAME",
        ),
        (
            "path,label\na,b\n",
            {"columns": {"label": "lable"}},
            r"no column 'lable' \(data.columns.label\); did you mean 'label'",
        ),
        (
            "path,label\na,b\n",
            {"columns": {"lable": "x"}},
            r"unknown option data.columns.lable; it must be one of path, label",
        ),
        ("path,label\na,b\n", {"columns": {"path": 1, "label": "x"}}, r"data.columns mixes names and numbers"),
        ("a b\n", {"columns": {"path": 1}}, r"data.columns.label must be the number of a column, from 1"),
        ("path,label\na,b\n", {"unit": "hours"}, r"data.unit \(hours\) must be seconds or frames"),
        ("path,label,split\na,b,val\n", {}, r"no row has the split train"),
    ],
)
def test_what_is_wrong_is_told_with_row_and_column(tmp_path, text, options, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "list.csv", **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"path": "a"}\n[1]\n', r"row 2: \[1\] is not an object"),
        (b'{"path": "a", "label": "x"}\n{"path"\n', r"row 2: not JSON"),
        (b'{"path": "a", "label": ["x", "y"]}\n', r"row 1: column label: \['x', 'y'\] must be one text or number"),
    ],
)
def test_wrong_json_lines_are_told(tmp_path, content, message):
    (tmp_path / "list.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "list.jsonl")


def test_files_of_other_kinds_are_told(tmp_path):
    (tmp_path / "a.json").write_text('{"path": "a"}')
    with pytest.raises(ValueError, match=r"a.json must hold a list of objects"):
        read(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(ValueError, match=r"b.json is not JSON"):
        read(tmp_path / "b.json")
    (tmp_path / "c.csv").write_bytes("path,label\na,b\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"c.csv is UTF-16"):
        read(tmp_path / "c.csv")
    (tmp_path / "d.csv").write_bytes(b"path,label\na\xff.mp4,b\n")
    with pytest.raises(ValueError, match=r"row 2: column path: 'a\\udcff.mp4' is not UTF-8"):
        read(tmp_path / "d.csv")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere.csv"):
        read(tmp_path / "nowhere.csv")
    pytest.importorskip("pyarrow")
    (tmp_path / "e.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"e.parquet cannot be read as Parquet"):
        read(tmp_path / "e.parquet")


def test_labels_that_are_numbers_are_in_their_order_or_indices_of_class_names(tmp_path):
    (tmp_path / "list.csv").write_text("path,label,split\na,10,train\nb,9,train\nc,10,val\n")
    assert read(tmp_path / "list.csv")["train"].classes == ("9", "10")
    (tmp_path / "names.txt").write_text("".join(f"class {i}\n" for i in range(11)))
    manifest = read(tmp_path / "list.csv", classes=str(tmp_path / "names.txt"))["train"]
    assert [manifest.classes[label] for label in manifest.labels] == ["class 10", "class 9"]
    (tmp_path / "few.txt").write_text("x\ny\n")
    with pytest.raises(ValueError, match=r"row 2: column label: '10' is not one of the 2 classes"):
        read(tmp_path / "list.csv", classes=str(tmp_path / "few.txt"))


def test_a_class_that_training_does_not_know_is_told(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na,1\nb,2\n")
    (tmp_path / "v.csv").write_text("path,label\nc,0\n")
    with pytest.raises(ValueError, match=r"v.csv.*\n.*row 2: column label: '0' is not one of the 2 classes"):
        read_manifests(DataSpec("csv", train=str(tmp_path / "t.csv"), val=str(tmp_path / "v.csv")))


def table(path: Path, *, videos: int, classes: int, per_group: int, split: str = "") -> Path:
    rows = [
        f"c{i % classes}/v_g{i // (classes * per_group):02d}_c{i // classes % per_group}.avi,c{i % classes}{split}"
        for i in range(videos)
    ]
    path.write_text("\n".join([f"path,label{',split' if split else ''}", *rows]))
    return path


class TestDrawnSplits:
    def test_every_class_is_divided_in_the_fractions(self, tmp_path):
        manifests = read(table(tmp_path / "t.csv", videos=400, classes=4, per_group=1))
        counts = {split: sorted(Counter(m.labels.tolist()).values()) for split, m in manifests.items()}
        assert counts == {"train": [70] * 4, "val": [15] * 4, "test": [15] * 4}
        assert "drawn with seed 0" in manifests["train"].notes[-1]

    def test_a_group_is_never_on_two_sides_and_classes_stay_even(self, tmp_path):
        file = table(tmp_path / "t.csv", videos=800, classes=4, per_group=4)  # 50 groups of 16 videos
        for seed in range(5):
            manifests = read(file, group=r"_(g\d+)_", seed=seed)
            groups = {split: {name.split("_")[1] for name in ids(m)} for split, m in manifests.items()}
            assert not groups["train"] & groups["val"]
            assert not (groups["train"] | groups["val"]) & groups["test"]
            shares = [np.bincount(m.labels, minlength=4) / 200 for m in manifests.values()]
            assert np.allclose(shares[0], 0.7, atol=0.03)
            assert np.allclose(shares[1], 0.15, atol=0.03)
        assert ids(read(file, group=r"_(g\d+)_", seed=0)["test"]) != ids(read(file, group=r"_(g\d+)_", seed=1)["test"])

    def test_three_groups_of_a_class_go_to_three_sides(self, tmp_path):
        file = table(tmp_path / "t.csv", videos=60, classes=2, per_group=10)
        assert all(set(m.labels) == {0, 1} for m in read(file, group=r"_(g\d+)_").values())

    def test_a_drawn_split_keeps_to_the_record_of_a_run(self, tmp_path):
        first = read(table(tmp_path / "t.csv", videos=400, classes=4, per_group=2), group=r"_(g\d+)_")
        assert first["train"].drawn_seed == 0
        record = SplitRecord.of({split: ids(m) for split, m in first.items()}, seed=0)
        more = table(tmp_path / "more.csv", videos=480, classes=4, per_group=2)
        spec = DataSpec("csv", file=str(more), group=r"_(g\d+)_", seed=7)
        second = read_manifests(spec, record=record)
        assert sum(map(len, second.values())) == 480
        assert all(set(ids(first[split])) <= set(ids(second[split])) for split in first)

    def test_a_column_may_be_the_group(self, tmp_path):
        rows = [f"{i}.mp4,c{i % 2},p{i // 6}" for i in range(60)]
        (tmp_path / "t.csv").write_text("\n".join(["path,label,person", *rows]))
        by_option = read(tmp_path / "t.csv", group="person")
        by_column = read(tmp_path / "t.csv", columns={"group": "person"})
        assert [ids(m) for m in by_option.values()] == [ids(m) for m in by_column.values()]
        people = [{int(name.split(".")[0]) // 6 for name in ids(m)} for m in by_option.values()]
        assert sum(map(len, people)) == 10

    def test_folds_cover_every_video_once_as_a_test(self, tmp_path):
        file = table(tmp_path / "t.csv", videos=120, classes=3, per_group=2)
        folds = [read(file, group=r"_(g\d+)_", fold=fold) for fold in range(5)]
        assert sorted(name for fold in folds for name in ids(fold["test"])) == sorted(
            name for part in folds[0].values() for name in ids(part)
        )
        for number, fold in enumerate(folds):
            assert sum(map(len, fold.values())) == 120
            assert ids(fold["val"]) == ids(folds[(number + 1) % 5]["test"])

    def test_leave_one_group_out(self, tmp_path):
        file = table(tmp_path / "t.csv", videos=120, classes=3, per_group=4)
        fold = read(file, group=r"_(g\d+)_", folds="groups", fold=2)
        assert {name.split("_")[1] for name in ids(fold["test"])} == {"g02"}
        assert {name.split("_")[1] for name in ids(fold["val"])} == {"g03"}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"fold": 5}, r"data.fold \(5\) must be one of 0..4"),
            ({"fold": 0, "folds": 2}, r"data.folds \(2\) needs at least 3 parts"),
            ({"fold": 0, "folds": 11, "group": r"_(g\d+)_"}, r"data.folds \(11\) needs at least 3 parts.* 10 groups"),
            ({"fold": 0, "folds": "people"}, r"data.folds \(people\) must be a number of folds or groups"),
            ({"group": r"person(\d+)"}, r"data.group=person\(\\d\+\) matches no part of 120 of the 120 names"),
            ({"group": r"(g\d"}, r"is not a regular expression"),
            ({"group": "person"}, r"no column 'person' \(data.columns.group\)"),
        ],
    )
    def test_mistakes_are_told(self, tmp_path, options, message):
        file = table(tmp_path / "t.csv", videos=120, classes=3, per_group=4)
        with pytest.raises(ValueError, match=message):
            read(file, **options)

    def test_validation_is_drawn_from_training_where_only_a_test_is_given(self, tmp_path):
        train = table(tmp_path / "t.csv", videos=200, classes=2, per_group=1, split=",train")
        text = train.read_text() + "\nx.mp4,c0,test\ny.mp4,c1,test\n"
        train.write_text(text)
        manifests = read(train)
        assert [len(m) for m in manifests.values()] == [170, 30, 2]
        assert "no row has the split val" in manifests["val"].notes[0]

    def test_without_a_test_it_is_the_validation(self, tmp_path):
        (tmp_path / "t.csv").write_text("path,label,split\na,x,train\nb,y,train\nc,x,val\nd,y,-\n")
        manifests = read(tmp_path / "t.csv")
        assert ids(manifests["test"]) == ["c"]
        assert manifests["test"].notes == (
            "1 rows of t.csv have no split and are left out", "no row has the split test: the test split is val",
        )  # fmt: skip

    def test_tables_of_their_own(self, tmp_path):
        train = table(tmp_path / "t.csv", videos=200, classes=2, per_group=1)
        (tmp_path / "v.csv").write_text("path,label\nx.mp4,c1\n")
        spec = DataSpec("csv", train=str(train), test=str(tmp_path / "v.csv"))
        manifests = read_manifests(spec)
        assert [len(m) for m in manifests.values()] == [170, 30, 1]
        assert manifests["test"].labels.tolist() == [1]  # the classes are those of training
        assert ids(read_manifests(spec, splits=("test",))["test"]) == ["x.mp4"]
        spec = DataSpec("csv", train=str(train), val=str(tmp_path / "v.csv"))
        assert [len(m) for m in read_manifests(spec).values()] == [200, 1, 1]
        with pytest.raises(ValueError, match=r"data=csv needs data.file=TABLE, or data.train=TABLE"):
            read_manifests(DataSpec("csv"))
        with pytest.raises(ValueError, match=r"data=csv has no training videos"):
            read_manifests(DataSpec("csv", val=str(train)))
        with pytest.raises(ValueError, match=r"data.fold \(1\) divides one table"):
            read_manifests(DataSpec("csv", train=str(train), fold=1))


def test_a_split_left_without_videos_is_told(tmp_path):
    (tmp_path / "t.csv").write_text("path,label,group\na,x,1\nb,y,1\n")
    with pytest.raises(ValueError, match=r"no video is left for train"):
        read(tmp_path / "t.csv")


class TestFolders:
    """Whole trees: folders of images, and files where groups or folds are asked for."""

    def tree(self, root, *names):
        for name in names:
            (root / name).mkdir(parents=True)
            (root / name / "img_00001.jpg").write_bytes(b"")

    def test_splits_are_those_of_the_folders(self, tmp_path):
        self.tree(tmp_path, "train/run/a", "train/run/b", "train/sit/c", "val/run/d", ".hidden/x")
        manifests = read_manifests(DataSpec("frames", root=str(tmp_path), image_fps=12.5))
        assert {split: ids(m) for split, m in manifests.items()} == {
            "train": ["train/run/a", "train/run/b", "train/sit/c"], "val": ["val/run/d"], "test": ["val/run/d"],
        }  # fmt: skip
        assert manifests["train"].path(0).images.fps == 12.5
        assert manifests["train"].missing() == []
        (tmp_path / "train/run/a/img_00001.jpg").unlink()
        (tmp_path / "train/run/a").rmdir()
        assert manifests["train"].missing() == ["train/run/a"]

    def test_a_split_is_drawn_with_groups_or_folds(self, tmp_path):
        names = [f"{label}/p{person}_{n}" for label in ("run", "sit") for person in range(6) for n in (0, 1)]
        self.tree(tmp_path, *names)
        manifests = read_manifests(DataSpec("frames", root=str(tmp_path), group=r"/(p\d)_"))
        people = [{name.split("/")[1][:2] for name in ids(m)} for m in manifests.values()]
        assert sum(map(len, people)) == 6
        assert manifests["train"].drawn_seed == 0
        fold = read_manifests(DataSpec("frames", root=str(tmp_path), group=r"/(p\d)_", fold=1, folds="groups"))
        assert ids(fold["test"]) == ["run/p1_0", "run/p1_1", "sit/p1_0", "sit/p1_1"]

    def test_files_in_folders_may_have_groups(self, tmp_path):
        for number in range(12):
            for label in ("run", "sit"):
                (tmp_path / label).mkdir(exist_ok=True)
                (tmp_path / label / f"p{number // 2}_{number}.mp4").write_bytes(b"")
        manifests = read_manifests(DataSpec("folder", root=str(tmp_path), group=r"(p\d)_"))
        people = [{name.split("/")[1][:2] for name in ids(m)} for m in manifests.values()]
        assert sum(map(len, people)) == 6

    @pytest.mark.parametrize(
        ("names", "options", "message"),
        [
            ([], {}, r"has no class folders; it must hold CLASS/folder of images"),
            (["run/a"], {}, r"holds one class, 'run'"),
            (["run", "sit/a"], {}, r"run holds no folder of images; each video must be a folder of its own"),
            (["run/a"], {"gaps": "no"}, r"data.gaps \(no\) must be error or close"),
            (["run/a"], {"image_fps": 0}, r"data.image_fps \(0\) must be positive"),
            (["run/a"], {"root": None}, r"data=frames needs the folder of the videos or a table"),
        ],
    )
    def test_mistakes_are_told(self, tmp_path, names, options, message):
        self.tree(tmp_path, *names)
        with pytest.raises(ValueError, match=message):
            read_manifests(DataSpec("frames", **{"root": str(tmp_path), **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "hours"}, r"data.time \(hours\) must be frames or seconds"),
        ({"fps": 15}, r"data.fps \(15\) is a rate in seconds; set data.time=seconds"),
        ({"time": "seconds", "fps": 0}, r"data.fps \(0\) must be positive"),
    ],
)
def test_a_rate_out_of_range_is_told(tmp_path, options, message):
    file = table(tmp_path / "t.csv", videos=40, classes=2, per_group=1)
    with pytest.raises(ValueError, match=message):
        read(file, **options)


def test_a_rate_is_part_of_every_path(tmp_path):
    file = table(tmp_path / "t.csv", videos=40, classes=2, per_group=1)
    assert read(file, time="seconds", fps=15)["val"].path(0).fps == 15
    assert read(file, time="seconds")["train"].select([1, 2]).path(0).fps == 0
