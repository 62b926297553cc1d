"""What `vidgn doctor` measured of the Triton kernels, by GPU and versions.

The rows are kept in `kernels.json` of $VIDGN_CACHE or ~/.cache/vidgn. Another GPU, or another version of torch, Triton
or vidgn, has a row of its own: a check counts for what was checked.
"""

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch


class KernelCheck(NamedTuple):
    """The result of one check.

    Args:
        passed: forward and backward agree with torch in float64.
        speedup: torch's time divided by the kernels' time, forward and backward; 0 where nothing was timed.
        detail: the largest error, or what went wrong.
    """

    passed: bool
    speedup: float
    detail: str

    @property
    def chooses_kernels(self) -> bool:
        """Whether `fuse=auto` takes the kernels."""
        return self.passed and self.speedup > 1


def read_check(machine: str, *, path: Path | None = None) -> KernelCheck | None:
    """Return the recorded check of a machine, None if there is none.

    A file that cannot be read counts as no record: the check is quick to repeat.
    """
    row = _read(path or record_file()).get(machine)
    try:
        return None if row is None else KernelCheck(row["passed"] is True, float(row["speedup"]), str(row["detail"]))
    except (KeyError, TypeError, ValueError):
        return None


def write_check(machine: str, check: KernelCheck, *, path: Path | None = None) -> Path:
    """Record the check of a machine in place of its earlier one; return the file."""
    path = path or record_file()
    rows = _read(path) | {machine: check._asdict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps({"kernels": rows}, indent=1))
    draft.replace(path)
    return path


def record_file() -> Path:
    """Return where the rows are kept: in $VIDGN_CACHE, or ~/.cache/vidgn."""
    return Path(os.environ.get("VIDGN_CACHE") or "~/.cache/vidgn").expanduser() / "kernels.json"


def machine_key(gpu: str) -> str:
    """Return the key of a GPU's row: its name and the versions that decide what the kernels compute."""
    return ", ".join([gpu, *(f"{name} {_version(name)}" for name in ("torch", "triton", "vidgn"))])


def gpu_name() -> str | None:
    """Return the name of the current CUDA GPU, None without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        rows = json.loads(path.read_text())["kernels"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return rows if isinstance(rows, dict) else {}
