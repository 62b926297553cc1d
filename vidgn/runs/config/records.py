"""Records of options: read from plain containers, and written as plain containers."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


class Options:
    """A group of options; those that a record does not name, where it takes them, are in `more`."""

    def plain(self) -> dict[str, Any]:
        """Return the options as plain containers, named and ordered as in the files."""
        values: dict[str, Any] = {}
        for item in fields(cast("Any", self)):
            value = plain_value(getattr(self, item.name))
            values |= value if item.name == "more" else {item.name: value}
        return values


def read_record(kind: type[Record], values: Mapping[str, Any], *, group: str = "") -> Record:
    """Return plain values as a record, groups of them as records of it.

    Lists become tuples; where a list of texts is wanted, one text is a list of one.

    Raises:
        ValueError: an option is unknown, missing, of another type or out of its range.
    """
    types = get_type_hints(kind)
    known = {name: value for name, value in values.items() if name in types}
    rest = {name: value for name, value in values.items() if name not in types}
    if "more" in types:
        known["more"] = rest
    elif rest:
        raise ValueError(f"unknown option {group}{next(iter(rest))}; use one of {', '.join(types)}.")
    read = {name: _read_value(types[name], value, name=f"{group}{name}") for name, value in known.items()}
    try:
        return kind(**read)
    except TypeError as err:
        raise ValueError(f"options are missing ({err}); leave none out with ~") from err


def _read_value(kind: Any, value: Any, *, name: str) -> Any:
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    record = next((part for part in parts if is_dataclass(part)), None)
    if record is not None and isinstance(value, Mapping):
        return read_record(cast("type[Any]", record), value, group=f"{name}.")
    if kind == tuple[str, ...] and isinstance(value, str):
        return (value,)
    if not any(_fits(part, value) for part in parts):
        wanted = [_WORDS.get(get_origin(part) or part, "a group of options") for part in parts]
        raise ValueError(f"{name} ({value}) must be {' or '.join(wanted)}.")
    return tuple(value) if isinstance(value, list) else value


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null",
          tuple: "a list such as [A,B]", Path: "a path"}  # fmt: skip


def _fits(kind: Any, value: Any) -> bool:
    """Tell whether a plain value is of a type; what else is asked of it, its record checks."""
    kind = get_origin(kind) or kind
    if kind is Any or kind is Literal:
        return True
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, (list, tuple) if kind is tuple else Mapping if kind is Mapping else kind)


def plain_value(value: Any) -> Any:
    """Return a value of a record as it is in a file."""
    if isinstance(value, Options):
        return value.plain()
    if is_dataclass(value):
        return {item.name: plain_value(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain_value(item) for name, item in value.items()}
    return [plain_value(item) for item in value] if isinstance(value, list | tuple) else value
