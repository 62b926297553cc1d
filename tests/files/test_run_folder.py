"""A run folder is one that a run made: files of anything else are neither removed nor replaced."""

import os

import pytest

from vidgn.files.run_folder import MARKER, check_foreign_files, check_run_inputs, claim_run_folder, claim_typed_folder
from vidgn.files.whole_files import clean_leftovers
from vidgn.runs.config import RunConfig
from vidgn.runs.ranks import forget_failures
from vidgn.runs.resume import own_folder
from vidgn.runs.session import compose_options

MINE = {
    "film.mkv.part": b"a download",
    "debian.iso.sha256": b"a sum without its file",
    "config.yaml": b"mine: 1\n",
    "metrics.csv": b"mine\n",
    "failed.ranking.txt": b"mine",
}


@pytest.fixture
def foreign(tmp_path):
    for name, content in MINE.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name in MINE}


@pytest.mark.parametrize("name", ["train", "eval"])
def test_a_folder_with_the_users_files_stops_the_command_before_anything_is_written(run, foreign, name, trained):
    words = [f"ckpt={trained}/checkpoints/best.ckpt"] if name == "eval" else []
    done = run(name, *words, f"hydra.run.dir={foreign}")
    assert done.status == 2
    assert f"hydra.run.dir={foreign} holds files that no run wrote (config.yaml, debian.iso.sha256, " in done.err
    assert "overwrite=true" in done.err
    assert sorted(path.name for path in foreign.iterdir()) == sorted(MINE)
    assert content(foreign) == MINE


def test_even_with_overwrite_only_names_of_a_run_are_removed(foreign):
    with pytest.raises(FileExistsError, match="holds files that no run wrote"), own_folder(foreign):
        pass
    (foreign / "last.1.ckpt.part").write_bytes(b"half")
    (foreign / "best.ckpt.sha256").write_bytes(b"of a file that is gone")
    with own_folder(foreign, overwrite=True):
        assert content(foreign) == MINE
    assert not (foreign / "last.1.ckpt.part").exists()
    assert not (foreign / "best.ckpt.sha256").exists()


@pytest.mark.parametrize("name", ["config.yaml", ".hydra/overrides.yaml", "checkpoints/last.ckpt.part", "train.log"])
@pytest.mark.parametrize("target", ["precious.txt", "not there yet"])
def test_a_run_writes_through_no_link_out_of_its_folder(tmp_path, name, target):
    run = tmp_path / "run"
    claim_run_folder(run)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(tmp_path / target)
    for may_overwrite in (False, True):
        with pytest.raises(FileExistsError, match=rf"{name} is a link to .*{target}, and a run would write there"):
            check_foreign_files(run, overwrite=may_overwrite)
    (run / name).unlink()
    (tmp_path / "disk").mkdir()
    (run / "tensorboard").symlink_to(tmp_path / "disk")  # a folder elsewhere is the user's wish
    (run / "best.txt").symlink_to(run / "config.yaml")
    check_foreign_files(run)


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("last.ckpt.part", True),
        ("last.12.ckpt.sha256.part", True),
        ("nonfinite-step7-rank0.pt.part", True),
        ("metrics.csv.part", True),
        ("probe.part", True),
        ("best.ckpt.sha256", True),  # without its file
        ("film.ckpt.part", False),
        ("best.mp4.part", False),
        ("mylast.ckpt.part", False),
        ("last.x.ckpt.part", False),
        ("weights.sha256", False),
    ],
)
def test_leftovers_are_told_by_their_whole_names(tmp_path, name, is_own):
    (tmp_path / name).write_bytes(b"")
    assert clean_leftovers(tmp_path) == ([name] if is_own else [])
    assert (tmp_path / name).exists() != is_own


def test_only_reports_of_failed_ranks_are_forgotten(foreign):
    (foreign / "failed.rank3.txt").write_text("it failed")
    forget_failures(foreign)
    assert not (foreign / "failed.rank3.txt").exists()
    assert content(foreign) == MINE


def test_a_run_comes_back_to_its_folder(tmp_path):
    with own_folder(tmp_path / "run"):
        (tmp_path / "run" / "metrics.csv").write_text("ours")
    assert (tmp_path / "run" / MARKER).is_file()
    check_foreign_files(tmp_path / "run")
    with own_folder(tmp_path / "run"):
        pass


def test_the_typed_folder_is_claimed_by_the_first_process_alone(tmp_path, monkeypatch):
    claim_typed_folder(["norm=gn", f"hydra.run.dir='{tmp_path}/a b'"])
    assert (tmp_path / "a b" / MARKER).is_file()
    for words in (["-m", "norm=gn,bn"], ["--help"], []):
        claim_typed_folder([*words, f"hydra.run.dir={tmp_path}/c"][: len(words) + bool(words)])
    assert not (tmp_path / "c").exists()
    monkeypatch.setenv("LOCAL_RANK", "1")
    claim_typed_folder([f"hydra.run.dir={tmp_path}/c"])
    assert not (tmp_path / "c").exists()


def test_what_hydra_writes_first_is_not_the_users(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "train.log").write_text("")
    claim_run_folder(tmp_path)
    assert (tmp_path / MARKER).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "name"),
    [("init", "checkpoints/best.ckpt"), ("data.intersect", "predictions.csv"), ("data.classes", "config.yaml")],
)
def test_a_run_writes_over_no_file_that_it_reads(tmp_path, key, name):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / name).write_bytes(b"read")
    os.link(tmp_path / "run" / name, tmp_path / "link")
    for source in (tmp_path / "run" / name, tmp_path / "link"):
        words = ["data=kinetics400", "data.root=/videos", f"{key}='{source}'"]
        inputs = RunConfig.read(compose_options("train", words)).inputs
        with pytest.raises(ValueError, match=r"hydra\.run\.dir=.* is an input of this command"):
            check_run_inputs(tmp_path / "run", inputs)
        check_run_inputs(tmp_path / "other", inputs)
