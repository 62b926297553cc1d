"""`vidgn train` and `vidgn eval` are train.py and eval.py, and list their options."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from vidgn.cli.option_table import print_options, read_options
from vidgn.runs.command_line import CONFIGS, check_words, group_choices, split_config_dir

ROOT = Path(__file__).parents[2]


def vidgn(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "vidgn", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.slow
def test_training_and_testing_by_the_command(tiny, trained, tmp_path):
    done = vidgn("train", *tiny, "log.percentiles=res5", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = (trained / "predictions.csv").read_bytes()
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == expected
    words = (f"ckpt={tmp_path / 'run/checkpoints/best.ckpt'}", "trainer.accelerator=cpu", "data.num_workers=0")
    done = vidgn("eval", *words, f"hydra.run.dir={tmp_path / 'eval'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "eval" / "predictions.csv").read_bytes() == expected


@pytest.mark.slow
def test_a_mistyped_option_is_answered(tmp_path):
    done = vidgn("train", "nrom=gn", cwd=tmp_path)
    assert done.returncode == 2
    assert "'nrom'" in done.stderr
    assert "did you mean" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_help_shows_commands_and_options(tmp_path):
    done = vidgn("train", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "vidgn train data=folder data.root=DIR" in done.stdout
    assert "data.opposites" in done.stdout


@pytest.mark.slow
def test_a_group_decides_whose_options_are_listed():
    motions, folder = read_options("train"), read_options("train", ["data=folder", "batch=3"])
    assert "data.opposites" in {option.name for option in motions["data"]}
    assert "data.opposites" not in {option.name for option in folder["data"]}
    general = {option.name: option for option in folder["general"]}
    assert general["data"].default == "folder"
    assert "motions" in general["data"].choices
    assert general["batch"].default == "3"
    assert "clips per device" in general["batch"].meaning
    with pytest.raises(ValueError, match="foldr"):
        read_options("train", ["data=foldr"])


@pytest.mark.parametrize("name", ["train", "eval"])
def test_every_option_of_the_configuration_is_listed(name):
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig, OmegaConf

    def leaves(node, prefix=""):
        for key in list(node.keys()):
            value = None if OmegaConf.is_missing(node, key) else node._get_node(key)
            if isinstance(value, DictConfig) and not value._is_none() and len(value):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        known = set(leaves(compose(name)))
    listed = {option.name for options in read_options(name).values() for option in options}
    assert known <= listed, sorted(known - listed)


@pytest.mark.parametrize("data", ["frames", "images", "motions"])
def test_every_option_of_a_data_set_has_its_value_and_its_meaning(data):
    options = read_options("train", [f"data={data}", *["task=image"] * (data == "images")])["data"]
    names = [option.name for option in options]
    assert names[0] == "data.name"
    assert len(names) == len(set(names))
    by_name = {option.name: option for option in options}
    assert by_name["data.deadline_seconds"].default == "30"
    assert "decoding one video" in by_name["data.deadline_seconds"].meaning
    plain = {"data.name", "data.val", "data.test", "data.backend"}
    assert {name for name in names if not by_name[name].meaning} <= plain


def test_no_data_file_sets_an_option_that_an_included_file_sets():
    def keys(name):
        text = (CONFIGS / "data" / f"{name}.yaml").read_text("utf-8")
        own = re.findall(r"^  (\w+):", text, flags=re.MULTILINE)
        included = [part for part in re.findall(r"^  - (_\w+)$", text, flags=re.MULTILINE) if part != "_self_"]
        return own + [key for part in included for key in keys(part)]

    for name in group_choices("data"):
        assert len(keys(name)) == len(set(keys(name))) > 5, name


def test_a_file_for_inclusion_is_no_choice():
    with pytest.raises(ValueError, match=r"'data=_reading' is unknown; data must be one of checkpoint, csv"):
        check_words("train", ["data=_reading"])
    with pytest.raises(ValueError, match=r"must be one of checkpoint, csv"):
        check_words("train", ["data=nothing"])


def test_the_table_fits_a_narrow_terminal():
    console = Console(width=70, record=True, file=io.StringIO())
    print_options("eval", console=console)
    lines = console.export_text().splitlines()
    assert any("num_clips" in line for line in lines)
    assert max(map(len, lines)) <= 70


def test_configuration_files_of_the_users_own(tmp_path):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "mine.yaml").write_text("# @package _global_\nbatch: 3\n")
    check_words("train", ["--config-dir", str(tmp_path), "preset=mine"])
    assert split_config_dir([f"--config-dir={tmp_path}", "norm=gn"]) == (tmp_path, ["norm=gn"])
    with pytest.raises(ValueError, match="mine"):
        check_words("train", ["preset=mine"])
    with pytest.raises(ValueError, match="gone is not a folder"):
        split_config_dir(["--config-dir", str(tmp_path / "gone")])
