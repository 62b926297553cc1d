"""Every recipe of datasets/, on lists and files made in the form that the data set comes in."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vidgn.data.splits import read_manifests
from vidgn.runs.command_line import CONFIGS
from vidgn.runs.config import data_spec

RECIPES = Path(__file__).parents[3] / "datasets"


def write(root, name, text=""):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def manifests(recipe, root, monkeypatch, number=0):
    """Run the recipe's shell block in a folder, and read the data that one of its commands names."""
    text = (RECIPES / recipe / "README.md").read_text()
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
        subprocess.run(["bash", "-euc", block], cwd=root, check=True, timeout=60)
    line = re.findall(r"^    python train.py (.*)$", text, flags=re.MULTILINE)[number]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=[word for word in shlex.split(line) if word != "-m"])
    monkeypatch.chdir(root)
    return read_manifests(data_spec(OmegaConf.to_container(config.data, resolve=True)))


def counts(found):
    return [len(manifest) for manifest in found.values()]


def names(manifest):
    return [manifest.video_id(row) for row in range(len(manifest))]


@pytest.mark.slow
def test_ucf101(tmp_path, monkeypatch):
    def name(label, group, clip):
        return f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi"

    (tmp_path / "UCF-101").mkdir()
    for n in (1, 2, 3):
        clips = [(label, g, k) for label in ("Archery", "Bowling") for g in range(8, 26) for k in (1, 2)]
        train = [f"{name(*clip)} {1 + (clip[0] == 'Bowling')}" for clip in clips]
        write(tmp_path, f"ucfTrainTestlist/trainlist0{n}.txt", "\r\n".join(train))
        test = [name(c, g, 1) for c in ("Archery", "Bowling") for g in range(1, 8)]
        write(tmp_path, f"ucfTrainTestlist/testlist0{n}.txt", "\n".join(test))
    found = manifests("ucf101", tmp_path, monkeypatch)
    assert counts(found)[2] == 14
    assert sum(counts(found)) == 72 + 14
    sides = [{name[-11:-8] for name in names(found[split])} for split in ("train", "val")]
    assert not sides[0] & sides[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "folder", "videos"),
    [("hmdb51", "testTrainMulti_7030_splits", "hmdb51"), ("jhmdb", "splits", "JHMDB_video/ReCompress_Videos")],
)
def test_lists_of_each_class(tmp_path, monkeypatch, recipe, folder, videos):
    (tmp_path / videos).mkdir(parents=True)
    for n in (1, 2, 3):
        for label in ("brush_hair", "wave"):
            lines = [f"Film{i // 2}_{label}_u_nm_np1_ba_goo_{i}.avi {(1, 1, 1, 1, 2, 0)[i % 6]} " for i in range(48)]
            write(tmp_path, f"{folder}/{label}_test_split{n}.txt", "\n".join(lines) + "\n")
    found = manifests(recipe, tmp_path, monkeypatch)
    assert counts(found)[2] == 16
    assert sum(counts(found)) == 80
    assert names(found["test"])[0] == "brush_hair/Film2_brush_hair_u_nm_np1_ba_goo_4.avi"


@pytest.mark.slow
def test_kinetics700(tmp_path, monkeypatch):
    for split in ("train", "val"):
        rows = [f"{label},abcdefghij{n},10,20,{split}" for n, label in enumerate(("run", "sit"))]
        text = "\n".join(["label,youtube_id,time_start,time_end,split", *rows])
        write(tmp_path, f"k700/annotations/{split}.csv", text)
        for n in (0, 1):
            write(tmp_path, f"k700/{split}/abcdefghij{n}_000010_000020.mp4")
    assert counts(manifests("kinetics700", tmp_path, monkeypatch)) == [2, 2, 2]


@pytest.mark.slow
def test_something_something(tmp_path, monkeypatch):
    labels = ["Holding [something]", "Pushing [something] from left to right"]
    for split in ("train", "validation"):
        rows = [{"id": str(n), "label": "holding a cup", "template": label} for n, label in enumerate(labels)]
        write(tmp_path, f"something-something-v2-{split}.json", json.dumps(rows))
        write(tmp_path, f"something-something-v1-{split}.csv", "1;Holding something\n2;Pushing, gently\n")
    for version in ("v1", "v2"):
        (tmp_path / f"20bn-something-something-{version}").mkdir()
    found = manifests("something_something", tmp_path, monkeypatch)
    assert names(found["val"]) == ["0.webm", "1.webm"]
    assert found["train"].classes == tuple(labels)
    found = manifests("something_something", tmp_path, monkeypatch, number=1)
    assert found["train"].classes == ("Holding something", "Pushing, gently")
    assert found["train"].images.fps == 12


@pytest.mark.slow
def test_jester(tmp_path, monkeypatch):
    for split in ("train", "validation"):
        write(tmp_path, f"jester-v1-{split}.csv", "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n")
    (tmp_path / "20bn-jester-v1").mkdir()
    found = manifests("jester", tmp_path, monkeypatch)
    assert found["train"].path(0) == str(tmp_path / "20bn-jester-v1/34870")


@pytest.mark.slow
def test_diving48(tmp_path, monkeypatch):
    rows = [{"vid_name": f"a_{n:05d}", "label": n % 12, "start_frame": 0, "end_frame": 99} for n in range(240)]
    write(tmp_path, "Diving48_V2_train.json", json.dumps(rows))
    write(tmp_path, "Diving48_V2_test.json", json.dumps(rows[:12]))
    (tmp_path / "rgb").mkdir()
    found = manifests("diving48", tmp_path, monkeypatch)
    assert counts(found) == [204, 36, 12]
    assert found["train"].classes == tuple(map(str, range(12)))


@pytest.mark.slow
def test_epic_kitchens(tmp_path, monkeypatch):
    header = (
        "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
        "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
    )
    times = [f"00:00:01.089,00:00:0{n}.14,00:00:0{n + 1}.37" for n in range(3)]
    words = [f"open door,open,{3 * n},door,3,['door'],[3]" for n in range(3)]
    rows = [f"P01_01_{n},P01,P01_01,{times[n]},8,202,{words[n]}" for n in range(3)]
    for split in ("train", "validation"):
        text = "\n".join([header, *rows])
        write(tmp_path, f"EPIC_100_{split}.csv", text)
    (tmp_path / "videos").mkdir()
    found = manifests("epic_kitchens", tmp_path, monkeypatch)
    assert names(found["val"]) == [f"P01_01.MP4#t={n}.14,{n + 1}.37" for n in range(3)]
    assert found["val"].classes == ("verb:0", "verb:3", "verb:6", "noun:3")
    assert found["val"].targets.heads == (("verb", 3), ("noun", 1))
    assert found["val"].label_set(2) == (2, 3)
    assert found["val"].group(0) == "P01_01.MP4"


@pytest.mark.slow
def test_charades(tmp_path, monkeypatch):
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    for split in ("train", "test"):
        actions = "c001 0.00 12.60;c092 11.90 21.20;c001 20.00 29.00"
        rows = [f'{split}{n},S{n},Home,6,7,Yes,"He, sits.",sofa,x,{actions},30\n' for n in range(8)]
        write(tmp_path, f"Charades/Charades_v1_{split}.csv", header + "".join(rows) + f"{split}9,S9,Home,,,,,,,,5\n")
    (tmp_path / "Charades_v1_480").mkdir()
    found = manifests("charades", tmp_path, monkeypatch)
    assert counts(found)[2] == 9
    assert sum(counts(found)) == 18
    assert names(found["test"])[:2] == ["test0.mp4", "test1.mp4"]
    assert found["test"].classes == ("c001", "c092")
    assert [found["test"].label_set(row) for row in (0, 8)] == [(0, 1), ()]
    assert found["test"].group(3) == "S3"


def test_moments_in_time(tmp_path, monkeypatch):
    for split in ("training", "validation"):
        for label in ("adult+female+singing", "barking"):
            write(tmp_path, f"moments/{split}/{label}/{split}_1.mp4")
    assert counts(manifests("moments_in_time", tmp_path, monkeypatch)) == [2, 2, 2]


@pytest.mark.slow
def test_kth(tmp_path, monkeypatch):
    for person in range(1, 26):
        for label in ("boxing", "walking"):
            write(tmp_path, f"kth/{label}/person{person:02d}_{label}_d1_uncomp.avi")
    found = manifests("kth", tmp_path, monkeypatch)
    people = [{name.split("person")[1][:2] for name in names(m)} for m in found.values()]
    assert sum(map(len, people)) == 25


@pytest.mark.slow
def test_weizmann(tmp_path, monkeypatch):
    people = ("daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar")
    for person in people:
        for label in ("walk", "bend"):
            write(tmp_path, f"weizmann/{label}/{person}_{label}.avi")
    found = manifests("weizmann", tmp_path, monkeypatch)
    assert names(found["test"]) == ["bend/daria_bend.avi", "walk/daria_walk.avi"]
    assert counts(found) == [14, 2, 2]
