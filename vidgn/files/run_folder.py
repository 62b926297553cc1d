"""Run folders: a marker says that a run made one; files of anything else in it are neither removed nor replaced."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vidgn.files.outputs import check_outputs
from vidgn.files.shipped import SHIPPED, shipped_checkpoint

MARKER = ".vidgn-run"
_EXPORTED = (".onnx", ".pt2", ".tflite", ".engine", ".mlmodel", ".mlpackage", ".xml")
_SHOWN = 3  # names in the message
_BEFORE_US = ("train.log", "eval.log", "multirun.yaml")  # Hydra writes them before the run can look
_RUN_DIR = "hydra.run.dir="
_NO_RUN = ("-m", "--multirun", "--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i")  # or folders of each job
_WRITTEN = (
    "config.yaml", "environment.json", "metrics.csv", "metrics.json", "predictions.csv", "pace.csv", "split.csv",
    "quarantine.jsonl", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/last.1.ckpt",
)  # fmt: skip


def claim_run_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Mark a folder as that of a run.

    Raises:
        FileExistsError: it holds files, and no run made it.
    """
    check_foreign_files(folder, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("A run of vidgn writes, replaces and removes its files in this folder.\n", "utf-8")


def check_foreign_files(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds files and that no run made, or links through which a run would write elsewhere.

    Raises:
        FileExistsError: it does.
    """
    _check_links(folder)
    if overwrite or (folder / MARKER).is_file() or not folder.is_dir():
        return
    others = sorted(
        path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _BEFORE_US
    )
    if others:
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise FileExistsError(
            f"hydra.run.dir={folder} holds files that no run wrote ({shown}); give a new or empty folder, or "
            "let the run replace files of its own names there with overwrite=true"
        )


def _check_links(folder: Path) -> None:
    """Refuse links to files outside: a run folder of a stranger could have any file of the user's replaced."""
    inside = folder.resolve()
    for part in (folder, folder / ".hydra", folder / "checkpoints"):
        for path in sorted(part.iterdir()) if part.is_dir() else ():
            target = path.resolve() if path.is_symlink() else path
            if path.is_symlink() and not target.is_dir() and not target.is_relative_to(inside):
                raise FileExistsError(
                    f"hydra.run.dir={folder}: {path.relative_to(folder)} is a link to {target}, and a run would write "
                    "there; remove the link, or give another folder"
                )


def claim_typed_folder(overrides: Sequence[str]) -> None:
    """Claim the folder of `hydra.run.dir=DIR` before Hydra writes into it; the first process alone.

    Raises:
        FileExistsError: it holds files, and no run made it.
    """
    if any(flag in overrides for flag in _NO_RUN) or _rank() != 0:
        return
    typed = [text.removeprefix(_RUN_DIR).strip("'\"") for text in overrides if text.startswith(_RUN_DIR)]
    if typed and "${" not in typed[-1]:
        may_overwrite = any(text.lower() == "overwrite=true" for text in overrides)
        claim_run_folder(Path(typed[-1]).expanduser(), overwrite=may_overwrite)


def checkpoint_of(given: str | Path, *, option: str = "ckpt=") -> Path:
    """Return a checkpoint file; of a run folder its best one, or its last.

    Args:
        given: a file, a run folder, or a name of `vidgn.files.shipped.SHIPPED` (a file of that name is `./motions`).
        option: as the user typed it, up to the value: `ckpt=` or `--ckpt `.

    Raises:
        FileNotFoundError: a folder without checkpoints.
        ValueError: a net that was exported for other programs.
    """
    if str(given) in SHIPPED:
        return shipped_checkpoint(str(given))
    path = Path(given).expanduser()
    if path.suffix.lower() in _EXPORTED:
        raise ValueError(
            f"{option}{path} is a net that was exported for other programs; give the checkpoint or the run folder "
            "that it was exported from"
        )
    if not path.is_dir():
        return path
    places = [folder / name for name in ("best.ckpt", "last.ckpt") for folder in (path / "checkpoints", path)]
    file = next((candidate for candidate in places if candidate.is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{option}{path} is a folder without checkpoints/best.ckpt; give a run folder of train.py or a .ckpt file."
        )
    return file


def check_run_inputs(folder: Path, inputs: Iterable[object]) -> None:
    """Refuse a run that would write over a file that it reads.

    Args:
        folder: of the run.
        inputs: values of options that may name a file; those that are no text do not.

    Raises:
        ValueError: it would; a resumed run may of course read and write its own checkpoints.
    """
    read = [os.path.expanduser(value) for value in inputs if isinstance(value, str)]
    check_outputs([folder / name for name in _WRITTEN], option=f"hydra.run.dir={folder}", inputs=read, overwrite=True)


def _rank() -> int:
    text = next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
    return int(text) if re.fullmatch(r"\d+", text) else 0
