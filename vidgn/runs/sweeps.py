"""Sweeps: `python train.py -m norm=bn,gn batch=8,4` trains every combination, each in a folder of its own."""

import hashlib
import re
from collections.abc import Sequence
from itertools import islice

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

FLAGS = ("-m", "--multirun")
LONGEST = 120  # bytes of a folder's name; file systems take 255
MOST = 50  # values of one word that are checked before the first job


def folder_name(words: str) -> str:
    """Return the folder of a job: its overrides, in one name that every file system and shell takes.

    >>> folder_name("batch=4,norm=gn")
    'batch=4,norm=gn'
    >>> folder_name("data.root=/videos/mine")
    'data.root=_videos_mine-dd18111b'
    """
    plain = re.sub(r"[^\w.,=+-]+", "_", words)
    if plain == words and len(plain.encode()) <= LONGEST:
        return plain
    tail = "-" + hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:8]  # two names stay two
    return plain.encode()[: LONGEST - len(tail)].decode(errors="ignore") + tail


def combinations(words: Sequence[str]) -> list[list[str]]:
    """Return jobs of a sweep in which every value of every word is used, to check before the first one runs.

    >>> combinations(["-m", "norm=bn,gn", "batch=8", "epochs=1,2"])
    [['norm=bn', 'batch=8', 'epochs=1'], ['norm=gn', 'batch=8', 'epochs=1'], ['norm=bn', 'batch=8', 'epochs=2']]
    >>> combinations(["norm=bn"])
    [['norm=bn']]

    Raises:
        ValueError: an override cannot be read.
    """
    if not any(flag in words for flag in FLAGS):
        return [list(words)]
    choices = [_values(word) for word in words if word not in FLAGS]
    first = [values[0] for values in choices]
    others = [
        [*first[:place], value, *first[place + 1 :]] for place, values in enumerate(choices) for value in values[1:]
    ]
    return [first, *others]


def _values(word: str) -> list[str]:
    if "=" not in word:
        return [word]
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as err:
        raise ValueError(f"{word!r} cannot be read ({err}); quote lists and special characters") from err
    if not override.is_sweep_override():
        return [word]
    name = word.partition("=")[0]
    return [f"{name}={value}" for value in islice(override.sweep_string_iterator(), MOST)]


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)  # of configs/train.yaml
