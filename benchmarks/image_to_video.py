"""Does a net that learnt pictures first learn videos faster? Pre-train in 2-D, inflate, fine-tune; and from scratch.

    python benchmarks/image_to_video.py                         # five seeds, group norm
    python benchmarks/image_to_video.py --norm bn
    python benchmarks/image_to_video.py --opposites apart       # twelve classes, in which directions count

Train C2D on the embedded pictures (`task=image`), then for each seed the I3D on the embedded motions twice with the
same videos, order, steps and rate, once with `init=` of that checkpoint and once without. The rate is the one that was
best for training from scratch, on other seeds and other videos (image_to_video.md). Each run is a `train.py` in a
process of its own; runs that are done are not repeated.
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

from vidgn.detection.dispatch import train_task
from vidgn.runs.command_line import command

COMMON = (
    "model.width=16", "crop=40", "data.num_workers=0", "data.deadline_seconds=null", "trainer.accelerator=cpu",
    "logger.names=[csv]", "trainer.enable_progress_bar=false",
)  # fmt: skip
PICTURES = ("task=image", "data.train=800", "epochs=8")  # 1,000 steps of 32 pictures
VIDEOS = (
    "clip_len=16", "data.train=60", "data.test=40", "num_clips=1", "optim=scratch",  # 90 steps of 8 an epoch
    "model.weight_standardization=false",
)  # fmt: skip
ARMS = ("inflated", "scratch")
RATES = {("gn", "together"): 0.06, ("gn", "apart"): 0.06, ("bn", "together"): 0.12, ("bn", "apart"): 0.12}  # optim.lr


def main() -> None:
    """Run what is missing under `--folder` and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of weights, order and clips")
    parser.add_argument("--pixels", type=int, default=0, help="seed of the videos; 900: those the rates are from")
    parser.add_argument("--norm", default="gn", choices=("gn", "bn"), help="of both nets")
    parser.add_argument("--opposites", default="together", choices=("together", "apart"), help="7 or 12 classes")
    parser.add_argument("--epochs", type=int, default=2, help="of 90 steps")
    parser.add_argument("--rate", type=float, help="optim.lr of both (default: the best from scratch)")
    parser.add_argument("--folder", type=Path, default=Path("runs/image_to_video"), help="of the runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    common = (f"norm={given.norm}", *COMMON)
    folder = given.folder.absolute() / given.norm
    pictures = _run(folder / "pictures", (*common, *PICTURES))
    chosen = (
        f"data.opposites={given.opposites}", f"data.seed={given.pixels}", f"epochs={given.epochs}",
        f"optim.lr={given.rate or RATES[given.norm, given.opposites]}",
    )  # fmt: skip
    rows = [_seed(seed, (*common, *VIDEOS), chosen=chosen, folder=folder) for seed in given.seeds]
    if given.json:
        print(json.dumps({"pictures": pictures, "videos": rows}, indent=1))
    else:
        print(f"pictures: top-1 {pictures['top1']:.1f} % (chance 20 %), {pictures['seconds']:.0f} s")
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    print("top-1 of the test in percent")
    print("seed  inflated  scratch  validation after each epoch")
    for row in rows:
        curves = " / ".join(" ".join(f"{100 - error:.1f}" for error in row[arm]["val_error"]) for arm in ARMS)
        print(f"{row['seed']:4}  {row['inflated']['top1']:8.1f}  {row['scratch']['top1']:7.1f}  {curves}")
    gains = [row["inflated"]["top1"] - row["scratch"]["top1"] for row in rows]
    spread = f"{statistics.stdev(gains):.1f}" if len(gains) > 1 else "unknown"
    print(f"inflated - scratch: mean {statistics.mean(gains):+.1f}, deviation {spread}, least {min(gains):+.1f}")


def _seed(seed: int, words: tuple[str, ...], *, chosen: tuple[str, ...], folder: Path) -> dict[str, Any]:
    own = (*chosen, f"seed={seed}")
    name = "_".join(word.partition("=")[2] for word in own)
    init = f"init={folder / 'pictures' / 'checkpoints' / 'last.ckpt'}"
    return {
        "seed": seed,
        "inflated": _run(folder / f"inflated_{name}", (*words, *own, init)),
        "scratch": _run(folder / f"scratch_{name}", (*words, *own)),
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
    command("train")(train_task)()


def _curve(path: Path, name: str) -> list[float]:
    with path.open() as file:
        return [round(float(row[name]), 2) for row in csv.DictReader(file) if row.get(name)]


if __name__ == "__main__":
    main()
