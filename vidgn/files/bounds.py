"""Checks of values that come from a file of a stranger: each raises ValueError with one short sentence.

The sentence has no subject ("has crop 0; it must be ..."): the caller puts the file's name in front. A message never
shows the inside of a container, which may have no end.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

MAX_TEXT = 4_096  # characters of an ordinary text
_MAX_VALUES = 2_000_000  # of containers in containers
_MAX_DEPTH = 8


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """Return a mapping whose keys are short texts."""
    if not isinstance(value, Mapping):
        raise ValueError(f"has {name} {shown(value)}; a mapping is needed")
    for key in value:
        if not isinstance(key, str) or len(key) > MAX_TEXT:
            raise ValueError(f"has the key {shown(key)} in {name}; keys are short texts")
    return value


def whole_number(value: object, name: str, low: int, high: int) -> int:
    """Return a whole number within bounds; truth values are none."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"has {name} {shown(value)}; it must be a whole number from {low} to {high}")
    return value


def finite_number(value: object, name: str) -> float:
    """Return a finite number."""
    is_number = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    if not is_number or abs(value) > 1e300 or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"has {name} {shown(value)}; it must be a finite number")
    return value  # type: ignore[return-value]


def text(value: object, name: str, *, longest: int = MAX_TEXT) -> str:
    """Return a text that is not too long."""
    if not isinstance(value, str):
        raise ValueError(f"has {name} {shown(value)}; it must be text")
    if len(value) > longest:
        raise ValueError(f"has {name} of {len(value):,} characters; at most {longest:,} are taken")
    return value


def one_of(value: object, name: str, choices: Collection[str]) -> str:
    """Return one of some texts."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"has {name} {shown(value)}; it must be one of {', '.join(choices)}")
    return value


def flat_options(value: object, name: str, *, named: bool = True) -> dict[str, Any]:
    """Return flat options: text, numbers, truth values and None, with a name among them."""
    plain = mapping(value, name)
    if len(plain) > 100:
        raise ValueError(f"has {len(plain)} options of {name}; at most 100 are known")
    for key, item in plain.items():
        _option(item, f"{name}.{bare(key)}")
    if named:
        text(plain.get("name"), f"{name}.name")
    return dict(plain)


def _option(value: object, name: str) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        text(value, name)
    elif isinstance(value, int):
        whole_number(value, name, -(1 << 62), 1 << 62)
    else:
        finite_number(value, name)


def texts(value: object, name: str) -> dict[str, str]:
    """Return a mapping of texts."""
    plain = mapping(value, name)
    return {key: text(item, f"{name}.{bare(key)}") for key, item in plain.items()}


def strings(value: object, name: str, *, longest: int = MAX_TEXT) -> tuple[str, ...]:
    """Return a list of texts that is not too long, nor any of them."""
    if not isinstance(value, list | tuple) or len(value) > 10_000:
        raise ValueError(f"has {name} {shown(value)}; a list of texts is needed")
    return tuple(text(item, name, longest=longest) for item in value)


def plain_values(value: object, name: str) -> Any:
    """Return plain values as they are, counted along every path: an alias in an alias is no way around the bound."""
    left = _MAX_VALUES

    def copy(item: object, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise ValueError(f"has too many or too deeply nested values in {name}")
        if isinstance(item, Mapping):
            return {key: copy(part, depth + 1) for key, part in mapping(item, name).items()}
        if isinstance(item, list | tuple):
            return [copy(part, depth + 1) for part in item]
        if item is None or isinstance(item, bool | str | bytes):
            return item
        if isinstance(item, int):
            return whole_number(item, name, -(1 << 63), 1 << 64)
        return finite_number(item, name)

    return copy(value, 0)


def shown(value: object) -> str:
    """Return a value for a message: short, and never the inside of a container, which may have no end."""
    if value is None:
        return "(none)"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, int) and value.bit_length() > 64:
        return f"(a number of {value.bit_length():,} bits)"
    if isinstance(value, bool | int | float):
        return repr(value)
    return f"({type(value).__name__})"


def bare(key: str) -> str:
    """Return a key for a message, without quotes."""
    return shown(key)[1:-1]
