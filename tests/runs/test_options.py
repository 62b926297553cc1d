"""Every option is listed in a file: a new one is a decision, not an accident.

Write the file again with `VIDGN_OPTIONS=write pytest tests/runs/test_options.py`.
"""

import functools
import json
import os
from pathlib import Path

import pytest

from vidgn.cli.option_table import read_options
from vidgn.detection.dispatch import OPTIONS
from vidgn.runs.command_line import CONFIGS, group_choices

FILE = Path(__file__).with_name("options.json")
DATA_SETS = [name for name in group_choices("data") if name != "checkpoint"]


@functools.cache
def options_of(name):
    """Return the options of a program, with those of every data set and norm."""
    if name == "detect":
        listed = (read_options("train", [choice], configs=OPTIONS) for choice in ("data=coco", "data=shapes"))
        return sorted({option.name for groups in listed for group in groups.values() for option in group})
    names = set()
    for choice in (
        *(f"data={data}" for data in DATA_SETS),
        *(f"norm={path.stem}" for path in (CONFIGS / "norm").glob("*.yaml")),
    ):
        if name == "eval" and choice.startswith("norm="):
            continue
        task = ["task=image"] if choice in ("data=images", "data=exposures") and name == "train" else []
        names |= {option.name for group in read_options(name, [choice, *task]).values() for option in group}
    return sorted(names)


@pytest.mark.parametrize("name", ["train", "eval", "detect"])
def test_the_options_are_those_that_were_decided_on(name):
    found = options_of(name)
    if os.environ.get("VIDGN_OPTIONS") == "write":
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        FILE.write_text(json.dumps({**kept, name: found}, indent=1, sort_keys=True) + "\n")
    kept = json.loads(FILE.read_text())[name]
    assert {"new": sorted(set(found) - set(kept)), "gone": sorted(set(kept) - set(found))} == {"new": [], "gone": []}


@pytest.mark.parametrize(
    "option",
    [
        "mixup", "cutmix", "randaugment", "erasing", "label_smoothing", "drop_path", "ema", "layer_decay", "freeze",
        "early_stop", "class_weights", "balanced",
    ],
)  # fmt: skip
def test_what_people_expect_is_an_option(option):
    assert option in {name.rpartition(".")[2] for name in options_of("train")}
