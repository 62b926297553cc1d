"""Names are data: what classes, files and options are called is escaped at each door where it is shown.

terminal, log   `printable`, and `escaped(stream)` for all that a command prints
picture         `plot_label`, beside theme.as_png, which reads no mathematics
CSV             `plain_cell`
HTML            html.escape, in report.page alone
"""

import re
from typing import TextIO, cast

# Control characters (C0, C1), line separators, marks that change the direction of the text, halves of surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_IN_LINES = re.compile(r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(name: str) -> str:
    r"""Return a name as one line that a terminal shows and does not obey.

    >>> printable("run\x1b[2J\n.mp4")
    'run\\x1b[2J\\n.mp4'
    """
    return _CONTROL.sub(_escape, name)


def plot_label(name: str, *, longest: int = 48) -> str:
    """Return a name for a picture: one line, and not longer than a picture is wide.

    >>> plot_label("a" * 100)[-4:]
    'aaa…'
    """
    line = printable(name)
    return line if len(line) <= longest else line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def plain_cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula.

    >>> plain_cell("=HYPERLINK(1).mp4"), plain_cell("run.mp4")
    ("'=HYPERLINK(1).mp4", 'run.mp4')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def escaped(stream: TextIO) -> TextIO:
    """Return a stream that writes lines to another one, with what a terminal would obey or not know escaped."""
    return cast("TextIO", _Escaped(stream))


class _Escaped:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        plain = _IN_LINES.sub(_escape, text)
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(plain.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
