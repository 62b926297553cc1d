"""Does a net that learnt pictures first learn videos faster? Pre-train in 2-D, inflate, fine-tune; and from scratch.

    python benchmarks/image_to_video.py --json          # three seeds, about half an hour on one idle core

For each seed: train C2D on the embedded pictures (`task=image`), then train the I3D on the embedded motions twice with
the same words, videos, order and steps, once with `init=` of that checkpoint and once without. The two runs differ in
nothing but their first weights. Each run is a `train.py` of its own; runs that are done are not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COMMON = (
    "norm=gn", "model.width=16", "crop=48", "data.num_workers=0", "trainer.accelerator=cpu", "logger.names=[csv]",
    "trainer.enable_progress_bar=false",
)  # fmt: skip
PICTURES = ("task=image", "data.train=100", "data.val=10", "data.test=20", "epochs=8")
VIDEOS = (
    "clip_len=16", "data.train=40", "data.val=5", "data.test=10", "epochs=5", "num_clips=2", "optim=scratch",
)  # fmt: skip


def main() -> None:
    """Run what is missing under `--folder` and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/image_to_video"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    rows = [_seed(seed, given.folder.absolute()) for seed in given.seeds]
    if given.json:
        print(json.dumps({"pictures": PICTURES, "videos": VIDEOS, "common": COMMON, "runs": rows}, indent=1))
        return
    columns = ("pictures", "inflated", "scratch")
    print("top-1 of the test in percent, and seconds of the run\nseed" + "".join(f"{name:>16}" for name in columns))
    for row in rows:
        cells = [f"{row[name]['top1']:9.2f} {row[name]['seconds']:5.0f}s" for name in columns]
        print(f"{row['seed']:4}{''.join(cells)}")
    gains = [row["inflated"]["top1"] - row["scratch"]["top1"] for row in rows]
    print(f"inflated - scratch: {', '.join(f'{gain:+.2f}' for gain in gains)}; median {statistics.median(gains):+.2f}")


def _seed(seed: int, folder: Path) -> dict[str, Any]:
    pictures = folder / f"pictures_{seed}"
    weights = pictures / "checkpoints" / "last.ckpt"
    return {
        "seed": seed,
        "pictures": _run(pictures, (*COMMON, *PICTURES, f"seed={seed}")),
        "inflated": _run(folder / f"inflated_{seed}", (*COMMON, *VIDEOS, f"seed={seed}", f"init={weights}")),
        "scratch": _run(folder / f"scratch_{seed}", (*COMMON, *VIDEOS, f"seed={seed}")),
    }


def _run(folder: Path, words: tuple[str, ...]) -> dict[str, Any]:
    """Train and test once; return top-1 of the test, the validation error of each epoch, and the wall time."""
    result = folder / "result.json"
    if not result.exists():
        began = time.monotonic()
        command = [sys.executable, str(ROOT / "train.py"), *words, f"hydra.run.dir={folder}"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        metrics = json.loads((folder / "metrics.json").read_text())
        told = {
            "top1": metrics["video_top1"],
            "clip_top1": metrics["clip_top1"],
            "val_error": _curve(folder / "metrics.csv", "val/error"),
            "seconds": round(time.monotonic() - began, 1),
            "words": " ".join(words),
        }
        result.write_text(json.dumps(told, indent=1) + "\n")
    told = json.loads(result.read_text())
    return dict(told)


def _curve(path: Path, name: str) -> list[float]:
    import csv

    with path.open() as file:
        return [round(float(row[name]), 2) for row in csv.DictReader(file) if row.get(name)]


if __name__ == "__main__":
    main()
