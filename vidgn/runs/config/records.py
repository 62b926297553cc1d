"""Records of options: read from plain containers, and written as plain containers."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_type_hints

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
    """Return plain values as a record, groups of them as records of it; lists become tuples.

    Raises:
        ValueError: an option is unknown, missing or out of its range.
    """
    types = get_type_hints(kind)
    known = {name: value for name, value in values.items() if name in types}
    rest = {name: value for name, value in values.items() if name not in types}
    if "more" in types:
        known["more"] = rest
    elif rest:
        raise ValueError(f"unknown option {group}{next(iter(rest))}; use one of {', '.join(types)}.")
    read = {name: _read_value(types[name], value, group=f"{group}{name}.") for name, value in known.items()}
    try:
        return kind(**read)
    except TypeError as err:
        raise ValueError(f"options are missing ({err}); leave none out with ~") from err


def _read_value(kind: Any, value: Any, *, group: str) -> Any:
    record = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
    if record is not None and isinstance(value, Mapping):
        return read_record(cast("type[Any]", record), value, group=group)
    return tuple(value) if isinstance(value, list) else value


def plain_value(value: Any) -> Any:
    """Return a value of a record as it is in a file."""
    if isinstance(value, Options):
        return value.plain()
    if is_dataclass(value):
        return {item.name: plain_value(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain_value(item) for name, item in value.items()}
    return [plain_value(item) for item in value] if isinstance(value, list | tuple) else value
