"""No command writes over one of its inputs, nor over a file it did not make unless told."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from vidgn.cli.main import app
from vidgn.data.synthetic.motions import write_video
from vidgn.data.synthetic.root import check_drawing_root
from vidgn.files.outputs import check_outputs, folded, replacing

MINE = b"the user's own"


@pytest.fixture
def folder(tmp_path):
    """Two classes of videos, a file that stands for a checkpoint, and a run folder."""
    for name in ("run/a.mp4", "sit/b.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True)
        write_video(path, np.zeros((4, 32, 32, 3), np.uint8))
    (tmp_path / "net.ckpt").write_bytes(MINE)
    (tmp_path / "out").mkdir()
    return tmp_path


# What every command that writes takes, and the first file that it would write.
WRITERS = {
    "explain": (["explain", "videos/run/a.mp4", "--ckpt", "net.ckpt", "--out", "out"], "out/a.mp4"),
    "features": (["features", "videos/run/a.mp4", "--ckpt", "net.ckpt", "--out", "out"], "out/a.npz"),
    "predict": (["predict", "videos/run/a.mp4", "--ckpt", "net.ckpt", "--overlay", "out/a.mp4"], "out/a.mp4"),
    "export": (["export", "--ckpt", "net.ckpt", "--out", "out/net.onnx"], "out/net.onnx"),
    "scan": (["scan", "videos", "out/p.jsonl", "--workers", "1"], "out/p.jsonl"),
    "scan, figure": (["scan", "videos", "out/p.jsonl", "--workers", "1"], "out/p.png"),
    "prepare": (["prepare", "videos", "out", "--workers", "1"], "out/run/a.mp4"),
    "prepare, ledger": (["prepare", "videos", "out", "--workers", "1"], "out/prepared.jsonl"),
    "pull": (["pull", "pushed", "--out", "out"], "out/README.md"),
}
# Those that need a real checkpoint or run before they look at their outputs; they have tests of their own below.
WITH_RUN = {"push", "report", "convert-weights", "show-batch"}
READ_ONLY = {"bench", "compare", "doctor", "model", "probe", "replay", "reproduce", "serve"} | {
    "train",
    "eval",
    "search",
}  # run folders


def test_every_command_is_covered():
    commands = get_command(app).commands
    covered = {name.partition(",")[0] for name in WRITERS} | WITH_RUN
    assert set(commands) - READ_ONLY == covered
    for name in covered:
        assert "--overwrite" in [text for option in commands[name].params for text in option.opts], name


@pytest.mark.parametrize("name", WRITERS)
def test_a_foreign_file_stops_a_command_before_it_begins(vidgn, folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    words, target = WRITERS[name]
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_bytes(MINE)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, _, err = vidgn(*words)
    assert status == 2, err
    assert target in err
    assert "--overwrite" in err or "move the file" in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["same", "symbolic", "hard"])
@pytest.mark.parametrize("name", ["explain", "predict", "export"])
def test_an_input_is_never_written_whatever_its_name(vidgn, folder, monkeypatch, name, link):
    monkeypatch.chdir(folder)
    words, target = WRITERS[name]
    source = Path("net.ckpt" if name == "export" else "videos/run/a.mp4").absolute()
    if link is None:
        words = [str(source.parent / "a.mp4") if word.endswith("out/a.mp4") else word for word in words]
        words = [str(source.parent) if word == "out" else word for word in words]
        words = [str(source) if word == "out/net.onnx" else word for word in words]
    else:
        link(source, target)
    before = source.read_bytes()
    status, _, err = vidgn(*words, "--overwrite")
    assert status == 2, err
    assert "is an input of this command" in err
    assert source.read_bytes() == before


def test_a_passport_is_scanned_again_and_its_figure_drawn_again(vidgn, folder):
    words = ("scan", folder / "videos", folder / "out" / "p.jsonl", "--workers", "1")
    assert vidgn(*words)[0] == 0
    first = (folder / "out" / "p.jsonl").read_bytes()
    assert vidgn(*words)[0] == 0
    assert (folder / "out" / "p.jsonl").read_bytes() == first
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["p.jsonl", "p.png"]


def test_overwrite_replaces_what_is_no_passport(vidgn, folder):
    (folder / "out" / "p.jsonl").write_bytes(MINE)
    status, _, err = vidgn("scan", folder / "videos", folder / "out" / "p.jsonl", "--workers", "1", "--overwrite")
    assert status == 0, err
    assert len((folder / "out" / "p.jsonl").read_text().splitlines()) == 2


def test_a_hard_link_to_a_video_is_no_name_for_a_passport(vidgn, folder):
    os.link(folder / "videos" / "run" / "a.mp4", folder / "out" / "p.jsonl")
    status, _, err = vidgn("scan", folder / "videos", folder / "out" / "p.jsonl", "--workers", "1", "--overwrite")
    assert status == 2
    assert "p.jsonl is an input of this command" in err


def test_a_source_that_changed_is_prepared_again_and_one_that_is_gone_removed(vidgn, folder):
    words = ("prepare", folder / "videos", folder / "out", "--workers", "1")
    (folder / "out" / "notes.txt").write_bytes(MINE)
    assert vidgn(*words)[0] == 0
    copy, source = folder / "out" / "run" / "a.mp4", folder / "videos" / "run" / "a.mp4"
    first = copy.stat().st_mtime_ns
    status, _, err = vidgn(*words)
    assert (status, copy.stat().st_mtime_ns) == (0, first)
    write_video(source, np.full((6, 32, 32, 3), 255, np.uint8))
    (folder / "videos" / "sit" / "b.mp4").unlink()
    status, _, err = vidgn(*words)
    assert status == 0
    assert "run/a.mp4: the source has changed" in err
    assert "sit/b.mp4: the source is gone; its prepared file is removed" in err
    assert not (folder / "out" / "sit" / "b.mp4").exists()
    rows = [json.loads(line) for line in (folder / "out" / "prepared.jsonl").read_text().splitlines()]
    assert rows[-1]["frames"] == 6
    assert (folder / "out" / "notes.txt").read_bytes() == MINE


def test_tars_of_other_files_are_written_again_and_superfluous_ones_removed(tmp_path):
    from vidgn.curation.pack import pack

    source = tmp_path / "src"
    for split in ("train", "val"):
        for label in ("run", "sit"):
            for number in range(2):
                path = source / split / label / f"{number}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, np.full((4, 32, 32, 3), 9 * number, np.uint8))
    tars = pack(source, tmp_path / "tars", megabytes=1e-6)
    assert len(tars) == 8
    old = tars[0].read_bytes()
    for path in source.rglob("*.mp4"):
        write_video(path, np.zeros((9, 48, 48, 3), np.uint8))
    again = pack(source, tmp_path / "tars", megabytes=1000)
    assert again[0].read_bytes() != old
    assert sorted(tmp_path.joinpath("tars").glob("*.tar")) == sorted(again)
    times = [tar.stat().st_mtime_ns for tar in again]
    assert [tar.stat().st_mtime_ns for tar in pack(source, tmp_path / "tars", megabytes=1000)] == times


def test_a_tar_of_the_users_is_not_replaced(tmp_path):
    from vidgn.curation.pack import pack

    for split in ("train", "val"):
        for label in ("run", "sit"):
            path = tmp_path / "src" / split / label / "0.mp4"
            path.parent.mkdir(parents=True)
            write_video(path, np.zeros((4, 32, 32, 3), np.uint8))
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "train-000000.tar").write_bytes(MINE)
    with pytest.raises(FileExistsError, match=r"train-000000\.tar exists already; .* add --overwrite"):
        pack(tmp_path / "src", tmp_path / "tars", megabytes=1)
    assert (tmp_path / "tars" / "train-000000.tar").read_bytes() == MINE


def test_embedded_videos_are_drawn_into_no_folder_of_the_users(folder):
    with pytest.raises(ValueError, match=r"data\.root=.*/videos holds other files \(run, sit\).* add data=folder"):
        check_drawing_root(folder / "videos", data="motions")
    with pytest.raises(ValueError, match=r"add data=images task=image"):
        check_drawing_root(folder / "videos", data="exposures")
    with pytest.raises(ValueError, match=r"net\.ckpt is a file; data=motions draws its files into a folder"):
        check_drawing_root(folder / "net.ckpt", data="motions")
    check_drawing_root(folder / "out", data="motions")
    check_drawing_root(folder / "new", data="motions")
    for name in ("motions1-tr2-va1-te1-nu80-si80-se0", "motions1-tr2-va1-te1-nu80-si80-se0.lock", ".DS_Store"):
        (folder / "out" / name).mkdir()
    check_drawing_root(folder / "out", data="exposures")


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "film.mp4.part").write_bytes(MINE)  # a download of the user's

    def fail(part):
        part.write_bytes(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"), replacing(tmp_path / "film.mp4") as part:
        fail(part)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4.part"]
    with replacing(tmp_path / "film.mp4") as part:
        part.write_bytes(b"whole")
    assert (tmp_path / "film.mp4").read_bytes() == b"whole"
    assert (tmp_path / "film.mp4.part").read_bytes() == MINE


def test_the_guard_sees_through_names(tmp_path):
    source = tmp_path / "a.mp4"
    source.write_bytes(MINE)
    os.link(source, tmp_path / "A.MP4")  # what a file system that folds names shows: one inode, two names
    for name in ("a.mp4", "A.MP4", "x/../a.mp4"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=r"--out: .* is an input of this command"):
            check_outputs([tmp_path / name], option="--out", inputs=[source], overwrite=True)
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match=r"dangling\.mp4 exists already; .*--overwrite"):
        check_outputs([tmp_path / "dangling.mp4"], option="--out", inputs=[source])
    with pytest.raises(FileExistsError, match=r"x is a folder"):
        check_outputs([tmp_path / "x"], option="--out", overwrite=True)
    check_outputs([tmp_path / "new.mp4"], option="--out", inputs=[source, "https://x.org/a.mp4", "\0"])
    shutil.rmtree(tmp_path / "x")


def test_names_that_a_file_system_folds_are_equal():
    assert folded("Cafe\u0301.MP4") == folded("caf\u00e9.mp4")
    assert folded("a.mp4") != folded("b.mp4")
