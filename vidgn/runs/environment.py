"""Where a run computes: package versions, commit, device."""

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only


def versions() -> dict[str, str]:
    """Return the versions that decide a result."""
    packages = (
        "vidgn",
        "torch",
        "torchvision",
        "pytorchvideo",
        "av",
        "decord",
        "torchcodec",
        "lightning",
        "torchmetrics",
        "numpy",
    )
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state(folder: Path) -> dict[str, str]:
    """Return the commit of the repository around `folder` and the files changed since; empty where there is none."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "changes": changes}


@rank_zero_only
def record_run(folder: Path, *, config: str, overrides: Sequence[str]) -> None:
    """Write `config.yaml`, its text given, and `environment.json` into a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    state = {"words": list(overrides), "versions": versions(), "git": git_state(Path(__file__).parent)}
    (folder / "environment.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def device_word(trainer: L.Trainer) -> str:
    """Return where the run computes, for people."""
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    on_cpu = f"cpu, {threads} thread{'s' * (threads > 1)}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
