"""Which checkpoint a run resumes from, whether it is the same job, and that it is alone in its folder."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from vidgn.callbacks.checkpointing import BEST
from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description
from vidgn.data.augment import AugmentSpec
from vidgn.data.manifests.manifest import Manifest
from vidgn.files.run_folder import check_foreign_files, claim_run_folder
from vidgn.files.whole_files import check_writable, clean_leftovers, copy_whole, newest_whole, sum_of
from vidgn.runs.config import RunConfig
from vidgn.runs.ranks import forget_failures, tell_who_failed
from vidgn.terminal.console import say

TRAINING = (  # options of a run that decide its numbers and are part of no group
    "loss", "label_smoothing", "class_weights", "focal_gamma", "balanced", "drop_path", "freeze", "train_only",
    "early_stop", "best_by", "val_clips", "fit_head", "distill", "ema", "swa", *AugmentSpec.__dataclass_fields__,
)  # fmt: skip
_VALIDATION = ("limit_val_batches", "val_check_interval", "check_val_every_n_epoch")  # decide which is the best
_CHOICE = tuple(f"trainer.{name}" for name in _VALIDATION)


@contextmanager
def own_folder(folder: Path, *, overwrite: bool = False) -> Iterator[None]:
    """Hold a run folder that is writable, not in use by another run and without leftovers.

    Args:
        folder: of the run.
        overwrite: take a folder with files that no run wrote.

    Raises:
        FileExistsError: it holds such files.
        OSError: it cannot be written, another run writes there, or another process of this run is gone.
    """
    if int(getattr(rank_zero_only, "rank", 0)) != 0:
        with tell_who_failed(folder):
            yield
        return
    check_foreign_files(folder, overwrite=overwrite)
    check_writable(folder / "checkpoints")
    claim_run_folder(folder, overwrite=True)
    with _lock(folder):
        forget_failures(folder)
        left = clean_leftovers(folder) + clean_leftovers(folder / "checkpoints")
        if left:
            say(f"note: removed what an interrupted save left: {', '.join(left)}")
        with tell_who_failed(folder):
            yield


def find_start(resume: str | None, folder: Path) -> Path | None:
    """Return the checkpoint to resume from: of `resume=PATH`, or the newest whole one of the folder for `auto`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: all checkpoints of the folder are damaged.
    """
    if resume is None:
        return None
    if resume != "auto":
        path = Path(resume).expanduser()
        path = newest_whole(path / "checkpoints")[0] or path if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(
                f"resume={resume} does not exist; give a file such as runs/NAME/checkpoints/last.ckpt, auto or null"
            )
        return path
    path_or_none, wrong = newest_whole(folder / "checkpoints")
    for message in wrong:
        say(f"warning: {message}")
    if path_or_none is None and wrong:
        raise ValueError(
            f"all {len(wrong)} checkpoints in {folder / 'checkpoints'} are damaged; start again with resume=null"
        )
    if path_or_none is not None:
        say(f"resuming from {path_or_none}" + (", the newest that is whole" if wrong else ""))
    return path_or_none


def bring_best(first: Path, folder: Path) -> None:
    """Copy the best checkpoint so far to a run that is resumed in another folder than it began in."""
    theirs, ours = first.parent / BEST, folder / "checkpoints" / BEST
    if int(getattr(rank_zero_only, "rank", 0)) == 0 and theirs.is_file() and not ours.exists():
        copy_whole(theirs, ours)


def check_same_job(path: Path, ours: Description, *, force: bool) -> None:
    """Refuse to resume another job than the checkpoint's; a longer run, or another validation, is only named.

    Raises:
        ValueError: with everything that differs.
    """
    checkpoint = read_checkpoint(path)
    refused: list[str] = []
    for name, old, new in _differences(checkpoint.description, ours):
        text = f"{name} {old!r} -> {new!r}"
        if name in _CHOICE or _is_longer(name, old, new):
            say(f"note: {text}: {_OTHER_BEST if name in _CHOICE else _LONGER}")
        else:
            refused.append(text)
    old, new = checkpoint.description.data.get("root"), ours.data.get("root")
    if old != new:
        say(f"note: data.root {old} -> {new}: the videos have the same names; what is in them is not compared")
    if not refused:
        return
    text = "; ".join(item if len(item) < 300 else item[:300] + "..." for item in refused)
    if not force:
        raise ValueError(
            f"{path} belongs to another job: {text}; give its options, another hydra.run.dir, or resume anyway with "
            "resume.force=true"
        )
    say(f"warning: resume.force: resuming another job than the checkpoint's: {text}")


def job(config: RunConfig, manifests: Mapping[Any, Manifest]) -> dict[str, Any]:
    """Return what the numbers of a run depend on beside its net and its clips, named as on the command line."""
    options = config.plain()
    return {
        "batch": config.batch,
        "accumulate_grad_batches": config.trainer.accumulate_grad_batches,
        "seed": config.seed,
        "epochs": config.epochs,
        "precision": config.trainer.precision,
        "init": init_content(config.init),
        "precise_bn": config.precise_bn,
        "skip_nonfinite": config.skip_nonfinite,
        **{name: options["data"].get(name) for name in ("flip", "backend", "clips_per_video")},
        **{f"data.{name}": options["data"].get(name) for name in ("name", "seed", "min_area")},
        **{f"trainer.{name}": getattr(config.trainer, name) for name in (*_TRAINER, *_VALIDATION)},
        "optim": options["optim"],
        "training": {name: options[name] for name in TRAINING},
        "segments": config.clip_rule == "segments",
        "fps": manifests["train"].fps,
        "videos": {split: fingerprint(manifests[split]) for split in ("train", "val")},
    }


_TRAINER = (
    "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches", "overfit_batches", "max_steps",
    "sync_batchnorm",
)  # fmt: skip
_LONGER = (
    "the run continues to the new end; its schedule is stretched over the whole new length, so that the rates until "
    "here are not those of a run that had this length from its start"
)
_OTHER_BEST = "the weights take the same way, but another checkpoint may be the best one"


def _is_longer(name: str, old: Any, new: Any) -> bool:
    """Tell whether a run may be resumed because it only has a later end."""
    if name == "epochs":
        return bool(new > old)
    return name == "trainer.max_steps" and (new == -1 or new > old > -1)


def init_content(init: Any) -> str | None:
    """Return what the weights that a run starts from are: of a file its content, wherever it lies."""
    path = None if init is None else Path(str(init)).expanduser()
    if path is None or not path.is_file():
        return None if init is None else str(init)
    return f"file with SHA-256 {sum_of(path)[:16]}"


def fingerprint(manifest: Manifest) -> str:
    """Return a sum over names, labels and order of the videos; where they lie does not count."""
    summed = hashlib.sha256(f"{len(manifest)} {manifest.classes}".encode())
    for row in range(len(manifest)):
        summed.update(f"{manifest.video_id(row)}\0{_labels(manifest, row)}\n".encode("utf-8", "surrogateescape"))
    return f"{len(manifest)} videos, {summed.hexdigest()[:16]}"


def _labels(manifest: Manifest, row: int) -> str:
    return ",".join(map(str, manifest.label_set(row)))


def _differences(theirs: Description, ours: Description) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = []
    mine = ours.job or {}
    for name, old in (theirs.job or {}).items():
        pairs += _parts_of(name, old, mine.get(name))
    return theirs.differences(ours) + [(name, old, new) for name, old, new in pairs if old != new]


def _parts_of(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Return a value, or those of a group of options; what an older version did not know is as it is now."""
    if name not in ("optim", "training") or not isinstance(old, dict) or not isinstance(new, dict):
        return [(name, old, new)]
    prefix = "optim." if name == "optim" else ""
    return [(f"{prefix}{key}", value, new.get(key)) for key, value in old.items()]


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder until the end of this process, however it ends; reading processes do not inherit it."""
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise OSError(
                f"{folder} is in use by another run (process {holder}); wait for its end or set another "
                "hydra.run.dir=DIR"
            ) from err
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        os.register_at_fork(after_in_child=file.close)
        yield
