"""Several labels in a cell, and several columns of labels."""

import json

import pytest

from vidgn.data.module import target_rows
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests


def read(file, **options):
    splits = options.pop("splits", ("train", "val", "test"))
    return read_manifests(DataSpec("csv", file=str(file), **options), splits=splits)


def classes_of(manifest):
    return [[manifest.classes[label] for label in manifest.label_set(row)] for row in range(len(manifest))]


@pytest.fixture
def table(tmp_path):
    rows = ["a,run;jump,train", "b,run; run ;,train", "c,,train", "d,sit;run,val", "e,jump,test"]
    (tmp_path / "t.csv").write_text("path,label,split\n" + "\n".join(rows))
    return tmp_path / "t.csv"


def test_a_cell_holds_several_labels(table):
    found = read(table, label_separator="semicolon")
    assert found["train"].classes == ("jump", "run", "sit")
    assert classes_of(found["train"]) == [["run", "jump"], ["run"], []]
    assert found["train"].class_counts().tolist() == [1, 2, 0]
    assert classes_of(found["train"].select([2, 0])) == [[], ["run", "jump"]]
    assert found["train"].labels.tolist() == [0, 1, 0]  # the rarest of each; of none the first class
    assert target_rows(found["train"])([0, 2]).tolist() == [[1, 1, 0], [0, 0, 0]]
    assert found["train"].targets.kind == "many"


def test_json_has_them_as_a_list(tmp_path):
    rows = [{"path": name, "label": labels, "split": "train"} for name, labels in (("a", ["x", "y"]), ("b", [3]))]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    found = read(tmp_path / "t.json", label_separator="bar", splits=("train",))["train"]
    assert classes_of(found) == [["x", "y"], ["3"]]
    with pytest.raises(ValueError, match=r"row 1: column label: \['x', 'y'\] must be one text or number"):
        read(tmp_path / "t.json", splits=("train",))


def test_several_columns_are_heads(tmp_path):
    rows = ["a,0,open,train", "b,2,cut,train", "c,2,open,val", "d,0,cut,test"]
    (tmp_path / "t.csv").write_text("path,verb,noun,split\n" + "\n".join(rows))
    found = read(tmp_path / "t.csv", columns={"label": ["verb", "noun"]})
    assert found["val"].classes == ("verb:0", "verb:2", "noun:cut", "noun:open")
    assert found["val"].targets.heads == (("verb", 2), ("noun", 2))
    assert classes_of(found["val"]) == [["verb:2", "noun:open"]]
    for split, lines in (("train", rows[:2]), ("val", [rows[3]])):
        (tmp_path / f"{split}.csv").write_text(
            "path,verb,noun\n" + "\n".join(line[: line.rfind(",")] for line in lines)
        )
    files = {split: str(tmp_path / f"{split}.csv") for split in ("train", "val")}
    several = read_manifests(DataSpec("csv", columns={"label": ["verb", "noun"]}, **files))
    assert classes_of(several["val"]) == [["verb:0", "noun:cut"]]
    assert several["val"].classes == found["val"].classes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_separator": "x"}, r"data.label_separator \(x\) must be one of semicolon, comma, bar, space"),
        ({"label_separator": ""}, r"data.label_separator \(\) must be one of semicolon"),
        ({"columns": {"label": ["label"]}}, r"data.columns.label \(\['label'\]\) must be one column, or two or more"),
        ({"columns": {"label": ["label", "nuon"]}}, r"has no column 'nuon' \(data.columns.label\)"),
        (
            {"columns": {"label": ["label", "split"]}, "label_separator": ";"},
            r"data.label_separator \(';'\) is for one column of labels, and data.columns.label has 2",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(table, options, message):
    with pytest.raises(ValueError, match=message):
        read(table, **options)


def test_rows_of_one_group_or_one_file_are_told(tmp_path):
    rows = ["a,x,train,g1,0,1", "a,y,train,g1,1,2", "b,x,val,g2,0,1", "c,y,test,,0,1"]
    (tmp_path / "t.csv").write_text("path,label,split,group,start,end\n" + "\n".join(rows))
    found = read(tmp_path / "t.csv")
    assert [found["train"].group(row) for row in range(2)] == ["g1", "g1"]
    assert found["test"].group(0) == "file c"
    (tmp_path / "u.csv").write_text("path,label,split\na,x,train\nb,y,train\nc,x,val\n")
    assert read(tmp_path / "u.csv")["train"].group(0) is None
