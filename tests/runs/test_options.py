"""Every option is listed in a file: a new one is a decision, not an accident.

Write the file again with `VIDGN_OPTIONS=write pytest tests/runs/test_options.py`.
"""

import functools
import json
import os
from itertools import zip_longest
from pathlib import Path

import pytest

from vidgn.cli.option_table import read_options
from vidgn.detection.dispatch import OPTIONS
from vidgn.runs.command_line import group_choices

FILE = Path(__file__).with_name("options.json")
DATA_SETS = [name for name in group_choices("data") if name != "checkpoint"]


@functools.cache
def options_of(name):
    """Return the options of a program, with those of every data set and norm."""
    if name == "detect":
        listed = (read_options("train", [choice], configs=OPTIONS) for choice in ("data=coco", "data=shapes"))
        return sorted({option.name for groups in listed for group in groups.values() for option in group})
    names = set()
    norms = group_choices("norm") if name == "train" else []
    for data, norm in zip_longest(DATA_SETS, norms):  # a composition takes half a second: each shows one of both
        choices = [f"data={data}"] if data else []
        choices += [f"norm={norm}"] if norm else []
        choices += ["task=image"] if name == "train" and data in ("images", "exposures") else []
        names |= {option.name for group in read_options(name, choices).values() for option in group}
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
