"""Kill training runs of two ranks, let them go on with the same or the other strategy, and compare the bits.

    python benchmarks/strategies.py --json

Each run trains a tiny net on the embedded motions through gloo on this machine: two epochs of three steps, a
validation after each, and the test. One rank is killed (SIGKILL) in the last step of each epoch, between two
checkpoints; the other one ends by itself and the run is started again. `identical` counts the runs that leave what a
run by ddp leaves that nobody killed: weights, optimizer, curves (CSV and TensorBoard), metrics and predictions.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.kill import DRAWN, WORDS
from benchmarks.processes import end, wait
from benchmarks.ranks import environments, start
from benchmarks.remains import digest, files

NORMS = {"gn": ("norm=gn",), "bn": ("norm=bn", "precise_bn=2"), "bn_averages": ("norm=bn", "precise_bn=null")}
STRATEGIES = ("ddp", "fsdp")
KILLED_AT = (2, 5)  # optimizer steps, of 0 to 5
RANKS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=tuple(NORMS))
    parser.add_argument("--folder", type=Path, help="where the runs go; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vidgn-strategies-"))
    os.environ.setdefault("VIDGN_CACHE", str(folder / "cache"))
    found = compare(options.norms, folder=folder)
    if options.folder is None and found["identical"] == found["runs"]:
        shutil.rmtree(folder)
    print(json.dumps(found) if options.json else f"{found}", flush=True)


def compare(norms: Sequence[str], *, folder: Path) -> dict[str, int]:
    """Run every norm with every pair of strategies; return the counts."""
    import vidgn.training.train  # noqa: F401  # here, so that the runs start quickly

    found = {"runs": 0, "identical": 0, "kills": 0, "litter": 0}
    for norm in norms:
        whole = folder / f"{norm}-whole"
        train(whole, norm, "ddp")
        expected, names = digest(whole), files(whole)
        for before, after in itertools.product(STRATEGIES, STRATEGIES):
            run = folder / f"{norm}-{before}-{after}"
            for step, strategy in zip(KILLED_AT, (before, after), strict=True):
                train(run, norm, strategy, killed_at=step)
                found["kills"] += 1
            train(run, norm, after)
            left = digest(run)
            found["runs"] += 1
            found["identical"] += left == expected
            found["litter"] += len(files(run) - names)
            differing = ", ".join(name for name in expected if left[name] != expected[name])
            print(
                f"{norm}, {before} then {after}: {f'DIFFERENT: {differing}' if differing else 'identical'}", flush=True
            )
    return found


def train(run: Path, norm: str, strategy: str, *, killed_at: int | None = None) -> None:
    """Train, or go on, on two ranks; with `killed_at` the second one is killed in that step."""
    words = (
        *WORDS, *DRAWN, *NORMS[norm], "data.num_workers=0", f"trainer.strategy={strategy}", f"trainer.devices={RANKS}",
        f"hydra.run.dir={run}",
    )  # fmt: skip
    processes = [
        start(
            "train", words, log=run.parent / f"{run.name}.log", environment=environment,
            prepare=None if killed_at is None or rank == 0 else partial(die_in_step, killed_at),
        )
        for rank, environment in enumerate(environments(RANKS))
    ]  # fmt: skip
    for process in processes:
        if killed_at is None:
            wait(process)
        elif end(process) == 0:
            raise SystemExit(f"a run that was killed ended with status 0; see {run.name}.log")


def die_in_step(step: int) -> None:
    """Let this process be killed in an optimizer step, before its forward pass."""
    from vidgn.classifier import VideoClassifier

    real = VideoClassifier.training_step

    def training_step(self: VideoClassifier, *args: object) -> object:
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *args)  # type: ignore[arg-type]

    VideoClassifier.training_step = training_step  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    main()
