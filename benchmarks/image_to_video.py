"""Does a net that learnt pictures first learn videos faster? Pre-train in 2-D, inflate, fine-tune; and from scratch.

    python benchmarks/image_to_video.py --json          # three seeds, about ten minutes on an idle core

Train C2D on the embedded pictures (`task=image`), then for each seed the I3D on the embedded motions twice with the
same words, videos, order and steps, once with `init=` of that checkpoint and once without. The two runs differ in
nothing but their first weights. Each run is a `train.py` in a process of its own; runs that are done are not repeated.
"""

import argparse
import csv
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from vidgn.tools.config import command
from vidgn.tools.train import train

COMMON = (
    "model.width=16", "crop=40", "data.num_workers=0", "data.deadline_seconds=null", "trainer.accelerator=cpu",
    "logger.names=[csv]", "trainer.enable_progress_bar=false",
)  # fmt: skip
PICTURES = ("task=image",)
VIDEOS = ("clip_len=16", "data.train=60", "epochs=3", "num_clips=1", "optim=scratch")


def main() -> None:
    """Run what is missing under `--folder` and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--norm", default="gn", help="of both nets")
    parser.add_argument("--folder", type=Path, help="of the runs (default: runs/image_to_video_NORM)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    folder = (given.folder or Path(f"runs/image_to_video_{given.norm}")).absolute()
    common = (f"norm={given.norm}", *COMMON)
    pictures = _run(folder / "pictures", (*common, *PICTURES))
    weights = folder / "pictures" / "checkpoints" / "last.ckpt"
    rows = [_seed(seed, common, folder=folder, weights=weights) for seed in given.seeds]
    if given.json:
        print(json.dumps({"pictures": pictures, "videos": rows}, indent=1))
        return
    print(f"pictures: top-1 {pictures['top1']:.2f} % (chance 20 %), {pictures['seconds']:.0f} s")
    print("videos, top-1 of the test in percent (chance 8.33)\nseed  inflated  scratch")
    for row in rows:
        print(f"{row['seed']:4}  {row['inflated']['top1']:8.2f}  {row['scratch']['top1']:7.2f}")
    gains = [row["inflated"]["top1"] - row["scratch"]["top1"] for row in rows]
    print(f"inflated - scratch: {', '.join(f'{gain:+.2f}' for gain in gains)}; median {statistics.median(gains):+.2f}")


def _seed(seed: int, common: tuple[str, ...], *, folder: Path, weights: Path) -> dict[str, Any]:
    words = (*common, *VIDEOS, f"seed={seed}")
    return {
        "seed": seed,
        "inflated": _run(folder / f"inflated_{seed}", (*words, f"init={weights}")),
        "scratch": _run(folder / f"scratch_{seed}", words),
    }


def _run(folder: Path, words: tuple[str, ...]) -> dict[str, Any]:
    """Train and test once; return top-1 of the test, the validation error of each epoch, and the wall time."""
    result = folder / "result.json"
    if not result.exists():
        began = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=_train, args=(folder, words))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"python train.py {' '.join(words)} failed, see {folder}")
        metrics = json.loads((folder / "metrics.json").read_text())
        told = {
            "top1": metrics["video_top1"],
            "val_error": _curve(folder / "metrics.csv", "val/error"),
            "seconds": round(time.monotonic() - began, 1),
            "words": " ".join(words),
        }
        result.write_text(json.dumps(told, indent=1) + "\n")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _train(folder: Path, words: tuple[str, ...]) -> None:
    sys.argv = ["train.py", *words, f"hydra.run.dir={folder}"]
    sys.stdout = sys.stderr  # the table alone goes to standard output
    command("train")(train)()


def _curve(path: Path, name: str) -> list[float]:
    with path.open() as file:
        return [round(float(row[name]), 2) for row in csv.DictReader(file) if row.get(name)]


if __name__ == "__main__":
    main()
