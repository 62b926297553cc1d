"""Where few validation videos decide, a run validates several clips of each by itself, and says so."""

import csv
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.runs.config import RunConfig, TaskSpec
from vidgn.runs.session import compose_options
from vidgn.training.small_validation import choose_val_clips, validation_clips


@pytest.mark.parametrize(
    ("num_videos", "clips"),
    [
        (1, 5),  # never more than 5
        (10, 5),
        (11, 5),  # 4 clips would be 44
        (13, 4),
        (25, 2),
        (26, 2),
        (49, 2),
        (50, 1),
        (240, 1),
    ],
)
def test_as_many_clips_as_make_fifty(num_videos, clips):
    assert validation_clips(num_videos) == clips


class Videos:
    """As many validation videos as are said."""

    def __init__(self, count, kind="one"):
        self.count = count
        self.targets = SimpleNamespace(kind=kind)

    def __len__(self):
        return self.count


@cache
def defaults():
    return RunConfig.read(compose_options("train", []))


def chosen(capsys, *, count=10, kind="one", **options):
    config = choose_val_clips(replace(defaults(), **{"batch": 8, **options}), Videos(count, kind), first=None)
    return config.val_clips, capsys.readouterr().out


def test_the_choice_is_printed_with_its_rule_and_its_way_out(capsys):
    assert chosen(capsys, count=20) == (
        3,
        "note: 20 validation videos are few: 3 clips of each are validated, the fewest that make 50 clips, at most 5; "
        "val_clips=1 validates one\n",
    )


@pytest.mark.parametrize(
    "options",
    [{"count": 50}, {"kind": "many"}, {"task": TaskSpec("image")}, {"fit_head": True}, {"val_clips": 1}],
)
def test_one_clip_without_a_line_where_there_is_no_choice(capsys, options):
    assert chosen(capsys, **options) == (1, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_clips": 2, "kind": "many"}, r"val_clips \(2\) must be 1 where videos have several labels; leave it out"),
        ({"val_clips": "many"}, r"val_clips \(many\) must be a number of clips per video, such as 5"),
        ({"val_clips": 2.5}, r"val_clips \(2\.5\) must be a number of clips"),
        ({"val_clips": True}, r"val_clips \(True\) must be a number of clips"),
    ],
)
def test_what_cannot_be_a_number_of_clips_is_refused(capsys, options, message):
    with pytest.raises(ValueError, match=message):
        chosen(capsys, **options)


@pytest.mark.slow
def test_a_run_on_few_videos_keeps_its_number_when_it_is_resumed(run, tiny, tmp_path):
    words = [*tiny, "val_clips=null", "batch=4", "test=false", f"hydra.run.dir={tmp_path}"]
    first = run("train", *words)
    assert first.status == 0, first.err
    assert "note: 12 validation videos are few: 5 clips of each are validated" in first.out
    assert OmegaConf.load(tmp_path / "config.yaml").val_clips == 5
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").description.job["training"]["val_clips"] == 5
    longer = run("train", *words, "epochs=2")
    assert longer.status == 0, longer.err
    with (tmp_path / "metrics.csv").open() as file:
        assert sum(bool(row["val/loss"]) for row in csv.DictReader(file)) == 2
    other = run("train", *words, "epochs=2", "val_clips=2")
    assert other.status == 2
    assert "belongs to another job: val_clips 5 -> 2" in other.err


@pytest.mark.slow
def test_a_run_that_began_with_one_clip_keeps_one(run, tiny, tmp_path):
    words = [*tiny, "test=false", f"hydra.run.dir={tmp_path}"]
    assert run("train", *words).status == 0
    longer = run("train", *words, "epochs=2", "val_clips=null")
    assert longer.status == 0, longer.err
    assert "clips of each are validated" not in longer.out
    assert OmegaConf.load(tmp_path / "config.yaml").val_clips == 1
