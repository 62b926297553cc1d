"""Make the weights that come with the package from a run of the main job.

    vidgn train hydra.run.dir=RUN
    python -m experiments.ship RUN

Writes `vidgn/weights/motions.ckpt` (float16), its sum, and its card: what trained it, and the accuracy that
`vidgn eval` measures with the stored file.
"""

import argparse
import dataclasses
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

import vidgn
from vidgn.checkpoints.checkpoint import Checkpoint, read_checkpoint
from vidgn.checkpoints.description import KEY
from vidgn.files.whole_files import write_whole

TARGET = Path(__file__).parents[1] / "vidgn" / "weights" / "motions.ckpt"
MIN_TOP1 = 98.0  # percent of videos
MAX_BYTES = 4_000_000
_METRICS = ("video_top1", "clip_top1", "intervals", "videos_scored", "videos_failed", "protocol", "device")
_LOCAL = ("root", "num_workers", "shards")  # options of data that belong to the machine


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of `vidgn train`")
    parser.add_argument("--out", type=Path, default=TARGET)
    parsed = parser.parse_args()
    write_half(read_checkpoint(parsed.run / "checkpoints" / "best.ckpt"), parsed.out)
    if parsed.out.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{parsed.out} has {parsed.out.stat().st_size:,} bytes; at most {MAX_BYTES:,} are shipped.")
    with tempfile.TemporaryDirectory() as folder:
        vidgn.evaluate(parsed.out, f"hydra.run.dir={folder}/eval")
        metrics = json.loads(Path(folder, "eval", "metrics.json").read_text("utf-8"))
    if metrics["video_top1"] < MIN_TOP1:
        raise SystemExit(f"{parsed.out} reaches {metrics['video_top1']} %; at least {MIN_TOP1} % are shipped.")
    card = make_card(parsed.run, parsed.out, metrics)
    parsed.out.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def write_half(checkpoint: Checkpoint, path: Path) -> None:
    """Write the net and its description, without optimizer, split and paths, in float16."""
    shared = checkpoint.description.shared()
    data = {key: None if key in _LOCAL else value for key, value in checkpoint.description.data.items()}
    description = dataclasses.replace(shared, data=data, split=None)
    tensors = {f"net.{name}": tensor.half() for name, tensor in checkpoint.net.items()}
    counts = {"global_step": checkpoint.step, "epoch": checkpoint.epoch}
    state = {KEY: description.to_plain(), "state_dict": tensors, **counts}
    write_whole(path, lambda file: torch.save(state, file))


def make_card(run: Path, path: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what is known about the weights: the job of the run and the numbers of the stored file."""
    environment = json.loads((run / "environment.json").read_text("utf-8"))
    trained = json.loads((run / "metrics.json").read_text("utf-8"))
    job = read_checkpoint(run / "checkpoints" / "best.ckpt").description.job or {}
    return {
        "name": path.stem,
        "bytes": path.stat().st_size,
        "dtype": "float16",
        "command": " ".join(["vidgn train", *environment["words"]]),
        "seed": job.get("seed"),
        "epochs": job.get("epochs"),
        "commit": environment["git"]["commit"],
        "versions": environment["versions"],
        "processor": processor(),
        "run_in_float32": {name: trained[name] for name in _METRICS if name in trained},
        "measured": {name: metrics[name] for name in _METRICS if name in metrics},
    }


def processor() -> str:
    """Return the name of the processor, as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
