"""Values of overrides: paths need no quotes, and a value of another type than its default is one sentence."""

import os
import re
from collections.abc import Sequence
from typing import Any

PATHS = (
    "ckpt", "classes", "init", "resume", "distill", "distill.ckpt", "data.root", "data.file", "data.train", "data.val",
    "data.test", "data.classes", "data.passport", "data.intersect", "data.shards", "hydra.run.dir",
)  # fmt: skip
_SPLITS = ("data.train", "data.val", "data.test")  # a number of videos for embedded data sets
_PLAIN = re.compile(r"[A-Za-z_/][\w./:-]*", re.ASCII)  # what Hydra's grammar takes for one text
_TIMES = ("_minutes", "_seconds")
_ALSO_TEXT = ("num_crops", "data.folds")  # full; groups


def quote_paths(overrides: Sequence[str]) -> list[str]:
    r"""Return overrides in which values of path options are quoted for Hydra's grammar, where it needs that.

    A sweep's lists stay as they are.

    >>> quote_paths(["ckpt=runs/epoch=3.ckpt", "data.root=/my videos (1)", "data.train=120", "ckpt=1e3", "init=null"])
    ["ckpt='runs/epoch=3.ckpt'", "data.root='/my videos (1)'", 'data.train=120', "ckpt='1e3'", 'init=null']
    """
    is_sweep = any(flag in overrides for flag in ("-m", "--multirun"))
    return [_quoted(text, is_sweep=is_sweep) for text in overrides]


def option_name(override: str) -> str:
    """Return the left side of KEY=VALUE, without Hydra's marks.

    >>> option_name("+trainer.profiler=simple")
    'trainer.profiler'
    """
    return override.partition("=")[0].lstrip("+~")


def check_type(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than the option's default.

    Args:
        name: of the option.
        value: as Hydra's grammar read it.
        default: of the composed configuration.

    Raises:
        ValueError: a number, a whole number or true/false is needed.
    """
    if value is None or (isinstance(value, str) and "${" in value) or name in _ALSO_TEXT or name.startswith("trainer."):
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value} must be true or false, such as {name}={str(not default).lower()}")
    elif isinstance(default, float) or (isinstance(default, int) and name.endswith(_TIMES)):
        if not is_number:
            raise ValueError(f"{name}={value} must be a number, such as {name}={default}")
    elif isinstance(default, int) and (not is_number or not isinstance(value, int)) and name not in PATHS:
        raise ValueError(f"{name}={value} must be a whole number, such as {name}={default}")


def _quoted(text: str, *, is_sweep: bool) -> str:
    name, equals, value = text.partition("=")
    if not equals or name.lstrip("+") not in PATHS or not value or value in ("null", "auto", "???"):
        return text
    if value[0] in "'\"" or "${" in value or (name in _SPLITS and value.isdecimal()) or (is_sweep and "," in value):
        return text
    if name == "hydra.run.dir":
        value = os.path.expanduser(value)
    if _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "nan", "inf"):
        return f"{name}={value}"
    return f"{name}='{_escaped(value)}'"


def _escaped(value: str) -> str:
    r"""Escape quotes, and the backslashes before them or at the end, as Hydra's grammar reads them.

    >>> print(_escaped("it's"), _escaped("C:\\videos\\"))
    it\'s C:\videos\\
    """
    return re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + (r"\'" if match[2] else ""), value)
