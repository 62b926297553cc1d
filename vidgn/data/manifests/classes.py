"""Class names: read them from a file, and turn the labels of a list into class indices."""

import csv
import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from vidgn.data.manifests.rows import BadRow, check_file

INTEGER = re.compile(r"-?[0-9]+")
_MOST_CLASSES = 10_000_000  # where neither names nor a number of classes are given


def read_classes(file: Path) -> tuple[str, ...]:
    """Read class names in the order of their indices.

    Either a text file with one name per line (mmaction2), a csv file with the columns `id,name`, or a json
    file with a list of names or with {name: index} (PySlowFast's classids.json, whose names carry quotes of
    their own).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A name is empty or repeated, the indices are not 0..Q-1, or the file is none of these.
    """
    check_file(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ValueError(f"{file} is not UTF-8 text ({err.reason} at byte {err.start}); class names must be") from err
    if file.suffix.lower() == ".json":
        return check_classes(_from_json(file, text), source=str(file))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if lines and lines[0].replace(" ", "").lower() == "id,name":
        pairs = list(csv.reader(lines[1:]))
        if any(len(row) != 2 for row in pairs):
            raise ValueError(f"{file}: each row must be id,name; quote a name that holds a comma")
        lines = _in_order(file, {name.strip(): index for index, name in pairs}, count=len(pairs))
    return check_classes(_without_numbers(lines), source=str(file))


def _without_numbers(lines: list[str]) -> list[str]:
    """Return names without the numbers before them, where these count all lines from 0 or 1: UCF's classInd.txt."""
    pairs = [line.split(None, 1) for line in lines]
    if not lines or any(len(pair) != 2 or not pair[0].isdecimal() for pair in pairs):
        return lines
    numbers = [int(number) for number, _ in pairs]
    is_counted = numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(lines)))
    return [name for _, name in pairs] if is_counted else lines


def check_classes(classes: Sequence[str], *, source: str) -> tuple[str, ...]:
    """Return the names as a tuple.

    Raises:
        ValueError: There is none, or one is empty or stands twice.
    """
    if not classes:
        raise ValueError(f"{source}: there is no class name; give at least one")
    if not all(classes):
        raise ValueError(f"{source}: class {list(classes).index('')} has no name; give every class a name")
    if len(set(classes)) < len(classes):
        twice = sorted({name for name in classes if classes.count(name) > 1})
        raise ValueError(f"{source}: class names must differ, but {twice[:10]} stand more than once")
    return tuple(classes)


class LabelIndex:
    """Turns the text of a label into the index of its class; remembers each text, of which there are few."""

    def __init__(self, classes: Sequence[str] | None, num_classes: int | None, *, first: int = 0) -> None:
        self._first = first  # the label of class 0
        self._classes = None if classes is None else tuple(classes)
        self._count = num_classes if classes is None else len(classes)
        self._by_name = {name: index for index, name in enumerate(classes or ())}
        self._known: dict[str, int] = {}

    @property
    def has_names(self) -> bool:
        """Whether labels may be names."""
        return bool(self._by_name)

    def some_name(self, pattern: re.Pattern[str]) -> bool:
        """Whether the pattern is found in one of the names."""
        return any(map(pattern.search, self._by_name))

    def __contains__(self, text: str) -> bool:
        return text in self._by_name

    def __call__(self, text: str) -> int:
        """Return the index; BadRow says what is wrong with the label."""
        if text not in self._known:
            self._known[text] = self._read(text)
        return self._known[text]

    def indices(self, texts: Sequence[str]) -> list[int]:
        """Return the index of each text; BadRow if one of them is wrong."""
        for text in set(texts):
            self(text)
        return list(map(self._known.__getitem__, texts))

    def classes_for(self, used: set[int]) -> tuple[str, ...]:
        """Return the class names; the integers themselves where no name was given.

        Raises:
            ValueError: Neither names nor their number were given, and the labels `used` leave gaps.
        """
        if self._classes is not None:
            return self._classes
        count = max(used) + 1 if self._count is None else self._count
        if self._count is None and len(used) < count:
            if 0 not in used and len(used) == count - 1:
                raise ValueError(f"the labels are 1..{count - 1}; if they begin at 1, set data.first_label=1")
            raise ValueError(
                f"the labels go up to {count - 1}, but {count - len(used):,} of the classes 0..{count - 1} "
                "have no row; give data.classes (classes_file, or num_classes), to tell a wrong label from a rare class"
            )
        return tuple(map(str, range(count)))

    def _read(self, text: str) -> int:
        named = self._by_name.get(text)
        if not INTEGER.fullmatch(text):
            return self._by_name[text] if named is not None else self._unknown(text)
        index = int(text) - self._first
        inside = 0 <= index < (self._count or _MOST_CLASSES)
        if named is not None and inside and named != index:
            raise BadRow(f"label {text} is the name of class {named} and the index of another class; write the name")
        if named is None and not inside:
            last = (self._count or _MOST_CLASSES) - 1 + self._first
            hint = "; if the labels begin at 1, set data.first_label=1" if not self._first and index == last + 1 else ""
            raise BadRow(f"label {text} is not in {self._first}..{last}{hint}")
        return index if named is None else named

    def _unknown(self, text: str) -> int:
        if self._classes is None:
            raise BadRow(f"label {text!r} is not an integer; give data.classes (classes_file) to write labels as names")
        close = difflib.get_close_matches(text, self._classes, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise BadRow(f"label {text!r} is neither an integer nor one of the {len(self._classes)} class names{hint}")


def _from_json(file: Path, text: str) -> list[str]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as err:
        raise ValueError(f"{file} is not json: {err}") from err
    if isinstance(data, list) and all(isinstance(name, str) for name in data):
        return data
    if not isinstance(data, dict):
        raise ValueError(f'{file} must hold a list of names or an object {{"name": index}}')
    return _in_order(file, {name.strip('"'): index for name, index in data.items()}, count=len(data))


def _in_order(file: Path, index_of: dict[str, object], *, count: int) -> list[str]:
    """Return the names sorted by index, which must be the integers from 0 on."""
    name_of = {str(index).strip(): name for name, index in index_of.items()}
    missing = [index for index in range(count) if str(index) not in name_of]
    if missing or len(name_of) != count:
        raise ValueError(
            f"{file}: {count} classes must have the distinct names and indices 0..{count - 1}; "
            f"without a name of its own: {missing[:10]}"
        )
    return [name_of[str(index)] for index in range(count)]
