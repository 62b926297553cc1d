"""Read the ordinary rows of a list many at a time; nearly all rows of nearly all lists are ordinary."""

import re
from collections.abc import Iterator

from vidgn.data.manifests.classes import LabelIndex
from vidgn.data.manifests.rows import BadRow, RowsBuilder, pieces

# Paths with these are cleaned row by row: drives of Windows, `..`, `.`, doubled slashes, and a slash at the end.
_TO_CLEAN = (":\\", ":/", "..", "//", "/.", "/ ", "/,", "/\t", '/"')


class OrdinaryRows:
    r"""Reads blocks in which every row is ordinary, and leaves the others alone.

    The path of an ordinary row is relative or absolute below the root, and has nothing to clean. After a comma or tab
    the label is a number or a name; after a space it is a number, and a path with spaces in it ends in a suffix, so
    that no longer ending of the row can be a class name.

    Args:
        separator: Of the file.
        root: Folder of the videos.
        labels: Turns labels into class indices.
    """

    def __init__(self, separator: str, *, root: str, labels: LabelIndex) -> None:
        below = f"(?:{re.escape(root.rstrip('/'))}/)?"
        self._labels = labels
        if separator == " ":
            spaced = "" if labels.some_name(_ENDING) else rf"|[^\s\"\0/.][^\"\0\r\n]*{_SUFFIX}"
            patterns = [rf"^{below}([^\s\"\0/.][^\s\"\0]*{spaced}) ([0-9]{{1,9}})\r?$"]
        else:
            path, label = rf"[^\s\"\0/.{separator}][^\"\0\r\n{separator}]*", rf"[^\s\"\0{separator}]"
            label = rf"({label}(?:[^\"\0\r\n{separator}]*{label})?)"
            quoted = r"[^\s\"\0/.][^\"\0\r\n]*"
            patterns = [
                rf"^{below}({path}(?<=\S)){separator} ?{label}\r?$",
                rf"^\"{below}({quoted}(?<=\S))\"{separator} ?\"?{label}\"?\r?$",
            ]
        self._patterns = [re.compile(pattern, re.MULTILINE) for pattern in patterns]

    def read(self, first: int, block: bytes, *, builder: RowsBuilder) -> Iterator[tuple[int, bytes]]:
        """Add the rows of a block, of which `first` is the number of the first; yield pieces that must be read singly.

        A piece is yielded where it stands, so its rows come in their order.
        """
        if self._add(first, block, builder):
            return
        for number, piece in pieces(first, block):
            if not self._add(number, piece, builder):
                yield number, piece

    def _add(self, first: int, block: bytes, builder: RowsBuilder) -> bool:
        try:
            text = block.decode()
            if any(mark in text for mark in _TO_CLEAN):
                return False
            count = text.count("\n") + 1
            for pattern in self._patterns:
                rows = pattern.findall(text)
                if len(rows) == count:
                    labels = self._labels.indices([label for _, label in rows])
                    builder.extend([name for name, _ in rows], labels, range(first, first + count))
                    return True
        except (UnicodeDecodeError, BadRow):
            return False  # reading row by row finds it again, and says where it is
        return False


_SUFFIX = r"\.[A-Za-z0-9]{2,4}"
_ENDING = re.compile(rf"{_SUFFIX} [0-9]+$")
