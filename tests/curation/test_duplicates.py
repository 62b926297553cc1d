"""Videos that are one: by file, bytes, name and look; and what training says of them."""

import csv
import shutil

import av
import numpy as np
import pytest

from vidgn.curation.duplicates import find_twins, look_of
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests
from vidgn.training.data_checks import balance_lines, check_data


def write(path, *, seed, side=64, crf=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 3 * side // 2, side, "yuv420p", {"crf": str(crf)}
        for index in range(12):
            image = np.kron(np.roll(coarse, index, axis=1), np.ones((side // 8, side // 8, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def manifest(root, *names):
    return Manifest.from_rows([(name, i % 2) for i, name in enumerate(names)], root=root, classes=["x", "y"])


def pairs(twins):
    return [(twin.video, twin.other, twin.why, twin.sure) for twin in twins]


@pytest.mark.slow
def test_equal_bytes_under_other_names_are_certain(tmp_path):
    write(tmp_path / "a.mp4", seed=1)
    write(tmp_path / "b.mp4", seed=2)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "copy.mp4")
    found = find_twins({"train": manifest(tmp_path, "a.mp4", "b.mp4"), "test": manifest(tmp_path, "copy.mp4")})
    assert pairs(found) == [("a.mp4", "copy.mp4", "equal bytes", "certain")]
    assert (found[0].split, found[0].other_split) == ("train", "test")


@pytest.mark.slow
def test_a_copy_of_another_size_and_quality_looks_the_same(tmp_path):
    for seed in range(6):
        write(tmp_path / f"{seed}.mp4", seed=seed)
    write(tmp_path / "again.mp4", seed=3, side=96, crf=30)
    train, test = manifest(tmp_path, *(f"{seed}.mp4" for seed in range(6))), manifest(tmp_path, "again.mp4")
    assert pairs(find_twins({"train": train, "test": test})) == []
    assert pairs(find_twins({"train": train, "test": test}, looks=True)) == [
        ("3.mp4", "again.mp4", "two frames look the same", "likely")
    ]


def test_clips_of_one_recording_have_one_source_name(tmp_path):
    train = manifest(tmp_path, "v_Archery_g01_c01.avi", "v_Archery_g02_c01.avi", "id_000010_000020.mp4", "7.mp4")
    test = manifest(tmp_path, "v_Archery_g01_c02.avi", "id_000030_000040.mp4", "8.mp4")
    assert pairs(find_twins({"train": train, "test": test})) == [
        ("v_Archery_g01_c01.avi", "v_Archery_g01_c02.avi", "the same source name", "likely"),
        ("id_000010_000020.mp4", "id_000030_000040.mp4", "the same source name", "likely"),
    ]
    assert pairs(find_twins({"train": train, "val": train})) == []  # a test that is the validation


def test_one_side_is_looked_at_only_on_request(tmp_path):
    both = manifest(tmp_path, "a_c1.mp4", "a_c2.mp4", "a_c3.mp4")
    assert find_twins({"train": both}) == []
    found = find_twins({"all": both}, within=True)
    assert [(twin.video, twin.other) for twin in found] == [("a_c1.mp4", "a_c2.mp4"), ("a_c1.mp4", "a_c3.mp4")]


def test_segments_of_one_file_on_two_sides_are_certain(tmp_path):
    rows = "path,label,split,start,end\na.mp4,x,train,0,1\na.mp4,y,test,1,2\nb.mp4,y,train,0,1\nc.mp4,x,val,,\n"
    (tmp_path / "t.csv").write_text(rows)
    found = find_twins(read_manifests(DataSpec("csv", file=str(tmp_path / "t.csv"))))
    assert pairs(found) == [("a.mp4#t=0,1", "a.mp4#t=1,2", "the same file", "certain")]


def test_what_cannot_be_read_or_is_flat_has_no_look(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert look_of(str(tmp_path / "a.mp4")) is None
    assert look_of(str(tmp_path / "missing.mp4")) is None


def test_training_tells_of_leaks_and_writes_them_down(tmp_path, capsys):
    train = manifest(tmp_path, "g_c1.mp4", "h_c1.mp4")
    check_data({"train": train, "val": manifest(tmp_path, "g_c2.mp4", "i_c1.mp4")}, tmp_path)
    out = capsys.readouterr().out
    assert "1 pairs of videos on two sides" in out
    assert "g_c1.mp4 (train) and g_c2.mp4 (val)" in out
    with (tmp_path / "leaks.csv").open() as file:
        assert [row["other"] for row in csv.DictReader(file)] == ["g_c2.mp4"]


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([10, 29], []),
        ([10, 30], ["classes are uneven: 10 to 30", "b", "a"]),
        ([5, 0], ["classes are uneven: 0 to 5", "a", "b"]),
        ([3, 40, *range(20, 30)], ["classes are uneven: 3 to 40", "b", "l", "k", "j", "...", "e", "d", "c", "a"]),
    ],
)
def test_uneven_classes_are_shown_largest_first(tmp_path, counts, shown):
    classes = [chr(ord("a") + label) for label in range(len(counts))]
    rows = [(f"{label}/{n}.mp4", label) for label, count in enumerate(counts) for n in range(count)]
    lines = balance_lines(Manifest.from_rows(rows, root=tmp_path, classes=classes))
    assert len(lines) == (len(shown) + 1 if shown else 0)
    assert all(line.strip().startswith(word) for line, word in zip(lines, shown, strict=False))
    if shown:
        assert "class_weights=balanced" in lines[-1]


@pytest.mark.slow
def test_a_whole_set_is_scanned_for_duplicates(tmp_path, capsys):
    from vidgn.cli.main import main

    write(tmp_path / "set/a.mp4", seed=1)
    write(tmp_path / "set/b.mp4", seed=2)
    with pytest.raises(SystemExit, match="0"):
        main(["scan", str(tmp_path / "set"), "--duplicates"])
    assert "2 videos, 0 pairs that seem to be one" in capsys.readouterr().out
    shutil.copy(tmp_path / "set/a.mp4", tmp_path / "set/c.mp4")
    with pytest.raises(SystemExit, match="1"):
        main(["scan", str(tmp_path / "set"), "--duplicates"])
    assert "certain: a.mp4 and c.mp4: equal bytes" in capsys.readouterr().out
