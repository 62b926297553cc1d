"""Where embedded data sets may be drawn: into an empty folder, or into one that holds nothing else."""

import re
from pathlib import Path

_OWN = re.compile(r"(motions|exposures)\d*(-[a-z]+\d+)+(\.lock|\.part)?")
_SHOWN = 3  # names in the message


def check_drawing_root(root: str | Path, *, data: str) -> None:
    """Refuse a folder that holds other files than embedded data sets.

    Args:
        root: the value of `data.root`.
        data: the value of `data`, motions or exposures.

    Raises:
        ValueError: it does, or it is a file.
    """
    folder = Path(root).expanduser()
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"data.root={root} is a file; data={data} draws its files into a folder: give an empty one.")
    others = sorted(path.name for path in folder.iterdir() if not _is_own(path))
    if not others:
        return
    shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
    kind = "videos" if data == "motions" else "images"
    own = "folder" if data == "motions" else "images task=image"
    raise ValueError(
        f"data.root={root} holds other files ({shown}), and data={data} draws embedded {kind} into data.root; to train "
        f"on your own {kind}, add data={own}; to draw, give an empty folder or leave data.root out"
    )


def _is_own(path: Path) -> bool:
    """Tell what a data set leaves in its folder, and hidden files, which any tool may leave anywhere."""
    return path.name.startswith(".") or _OWN.fullmatch(path.name) is not None
