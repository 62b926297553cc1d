"""Where commands write: never over one of their inputs, and over any other existing file only if told to.

check_outputs    before anything is computed: which files a command may write
replacing        while it writes: a file appears under its name only when it is whole
"""

import contextlib
import os
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_FileId = tuple[int, int]  # device and inode: equal for links and for names that a file system folds


def check_outputs(
    files: Iterable[str | Path],
    *,
    option: str,
    inputs: Iterable[str | Path] = (),
    overwrite: bool = False,
    how: str = "--overwrite",
    is_own: Callable[[Path], bool] = lambda file: False,
) -> None:
    """Refuse files that a command must not write.

    Two names are the same file if they have one device and inode: symbolic links, hard links, `./a/../b` and names
    that a file system folds (`A.mp4` and `a.mp4`) are all found.

    Args:
        files: what will be written.
        option: where the user chose it, for the message, such as `--out explained`.
        inputs: what the command reads; files that do not exist are passed over.
        overwrite: whether the user allowed to replace other files.
        how: what the user types to allow it.
        is_own: tells files that an earlier run of the command wrote and that may be replaced.

    Raises:
        ValueError: a file is one of the inputs.
        FileExistsError: a file exists and the command did not write it.
    """
    targets = [Path(file) for file in files]
    read = {file_id: Path(file) for file in inputs if (file_id := _file_id(file)) is not None}
    for file in targets:
        source = read.get(_file_id(file) or (-1, -1))
        if source is not None:
            raise ValueError(f"{option}: {file} is an input of this command ({source}); choose another place to write.")
        if file.is_dir():
            raise FileExistsError(f"{option}: {file} is a folder, and a file of that name would be written; rename it.")
    existing = [file for file in targets if os.path.lexists(file) and not overwrite and not is_own(file)]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        verb = "exist" if more else "exists"
        raise FileExistsError(f"{option}: {existing[0]}{more} {verb} already; choose another place, or add {how}.")


@contextlib.contextmanager
def replacing(file: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder that becomes `file` at the end, or nothing where an error is raised.

    Raises:
        OSError: the folder cannot be made or written.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".vidgn-{secrets.token_hex(4)}.part")  # not NAME.part, which may be the user's download
    try:
        yield part
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def folded(name: str) -> str:
    """Return what file systems that fold names take it for: `A.mp4` is `a.mp4`, and e with an accent is one letter.

    >>> folded("CAFE\u0301") == folded("caf\u00e9")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _file_id(file: str | Path) -> _FileId | None:
    try:
        state = os.stat(file)
    except (OSError, ValueError):  # it does not exist, or is an address
        return None
    return state.st_dev, state.st_ino
