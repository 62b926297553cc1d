"""Test one checkpoint on any number of ranks and videos per step, and compare the predictions byte for byte.

    python benchmarks/ranks.py --json --ranks 1 2 3 --batch 1 3 8

A tiny net is trained on the embedded motions and tested, through gloo on this machine, on videos whose number no
number of ranks divides and two of which are broken; groups of views go across videos. Then tests are killed (SIGKILL
of every rank, each after some predictions) and the same command goes on with another number of ranks. `identical`
counts the tests whose predictions.csv and scores have the bits of the first one, `resumed` those that were killed and
went on, `scored_twice` those that scored more than what was left.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.processes import end, wait

TRAINING = (
    "data.train=2", "data.val=1", "data.test=1", "data.num_workers=0", "epochs=1", "num_clips=2", "model.width=8",
    "crop=32", "clip_len=8", "span=16", "test=false", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
)  # fmt: skip
TESTING = (
    "data=folder", "num_clips=3", "num_crops=3", "view_batch=4", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
)  # fmt: skip
COPIES, BROKEN = 2, 2  # of each of the twelve test videos; videos that cannot be read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--workers", type=int, default=0, help="reading processes of each rank")
    parser.add_argument("--ckpt", type=Path, help="of a tiny net on motions; default: one is trained")
    parser.add_argument("--folder", type=Path, help="where the runs go; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vidgn-ranks-"))
    os.environ.setdefault("VIDGN_CACHE", str(folder / "cache"))
    result = compare(options.ranks, options.batch, workers=options.workers, folder=folder, ckpt=options.ckpt)
    if options.folder is None and result["identical"] == result["tests"]:
        shutil.rmtree(folder)
    print(json.dumps(result) if options.json else f"{result}", flush=True)


def compare(
    ranks: Sequence[int], batches: Sequence[int], *, workers: int, folder: Path, ckpt: Path | None
) -> dict[str, int]:
    """Run the grid and the interrupted tests; return the counts."""
    import vidgn.training.train  # noqa: F401  # here, so that the tests start quickly

    if ckpt is None:
        wait(start("train", (*TRAINING, f"hydra.run.dir={folder / 'trained'}"), log=folder / "trained.log"))
        ckpt = folder / "trained" / "checkpoints" / "best.ckpt"
    videos = lay_out(folder)
    words = (*TESTING, f"ckpt={ckpt}", f"data.root={folder / 'videos'}", f"data.num_workers={workers}")
    found = {"videos": videos, "tests": 0, "identical": 0, "resumed": 0, "scored_twice": 0}
    reference: tuple[bytes, bytes] | None = None
    for count, batch in itertools.product(ranks, batches):
        run = folder / f"ranks{count}_batch{batch}"
        run_test(run, (*words, f"batch={batch}"), ranks=count)
        reference = reference or _bytes(run)
        _count(found, same=_bytes(run) == reference, name=run.name)
    for before, after in itertools.permutations(ranks, 2):
        run = folder / f"ranks{before}_then{after}"
        run_test(run, (*words, "batch=3"), ranks=before, lives=3)
        scored = _journaled(run)
        run_test(run, (*words, "batch=3"), ranks=after)
        found["resumed"] += bool(scored)
        found["scored_twice"] += f"resuming the test: {scored} of {videos} videos" not in _log(run)
        _count(found, same=_bytes(run) == reference, name=run.name)
    return found


def lay_out(folder: Path) -> int:
    """Make a folder of test videos; return how many there are."""
    from vidgn.data.synthetic.motions import MotionsSpec, prepare_motions

    source = prepare_motions(os.environ["VIDGN_CACHE"], spec=MotionsSpec(train=2, val=1, test=1))  # those of TRAINING
    for path in sorted((source / "test").rglob("*.mp4")):
        for split, copy in itertools.product(("train", "val"), range(COPIES)):
            target = folder / "videos" / split / path.parent.name / f"{path.stem}_{copy}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for number, target in enumerate(sorted((folder / "videos" / "val").iterdir())[:BROKEN]):
        (target / "broken.mp4").write_bytes(b"no video"[: 8 * number])
    first = next((folder / "videos" / "val").rglob("*_1.mp4"))
    first.unlink()  # an odd number
    return sum(1 for path in (folder / "videos" / "val").rglob("*.mp4"))


def run_test(run: Path, words: Sequence[str], *, ranks: int, lives: int | None = None) -> None:
    """Run one test on `ranks` processes; with `lives` each is killed after that many predictions."""
    words = (*words, f"hydra.run.dir={run}")
    log = run.parent / f"{run.name}.log"
    if ranks == 1:
        processes = [start("eval", words, log=log, prepare=None if lives is None else partial(die_after, lives))]
    else:
        words = (*words, "trainer.strategy=ddp", f"trainer.devices={ranks}")
        processes = [
            start(
                "eval", words, log=log, environment=environment,
                prepare=None if lives is None else partial(die_after, lives + rank),
            )
            for rank, environment in enumerate(environments(ranks))
        ]  # fmt: skip
    if lives is None:
        for process in processes:
            wait(process)
        return
    for process in processes:
        end(process)


def environments(ranks: int) -> list[dict[str, str]]:
    """Return the environment of each rank, as torchrun gives it on one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "1", "GROUP_RANK": "0"}
    sizes = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [{**job, **sizes, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def start(
    name: str,
    words: Sequence[str],
    *,
    log: Path,
    environment: dict[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> int:
    """Start a command in a child of this process, which has imported all that it needs; return its id.

    Args:
        name: train or eval.
        words: of the command.
        log: gets what the child prints.
        environment: of the child, beside this process's.
        prepare: called in the child before the command.
    """
    process = os.fork()
    if process:
        return process
    from lightning.pytorch.utilities import rank_zero_only

    from vidgn.detection.dispatch import evaluate_task, train_task
    from vidgn.runs.command_line import command

    os.environ.update(environment or {})
    rank_zero_only.rank = int(os.environ.get("RANK", 0))  # read when Lightning was imported, before the fork
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if prepare is not None:
        prepare()
    _write_all_digits()
    sys.argv = [f"{name}.py", *words]
    status = 0
    try:
        command(name)({"train": train_task, "eval": evaluate_task}[name])()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)


def die_after(lives: int) -> None:
    """Let this process be killed after that many predictions."""
    from vidgn.evaluation.journal import Journal

    add, left = Journal.add, itertools.count(lives - 1, -1)

    def add_and_die(self: Journal, prediction: object) -> None:
        add(self, prediction)  # type: ignore[arg-type]
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.add = add_and_die  # type: ignore[method-assign]


def _write_all_digits() -> None:
    """Let a test of this process write its scores with all their digits too; predictions.csv has six."""
    from lightning.pytorch.utilities import rank_zero_only

    from vidgn.evaluation import evaluate

    real = evaluate.write_result  # type: ignore[attr-defined]

    @rank_zero_only
    def write(result: Any, predictions: Any, *args: Any, **options: Any) -> None:
        real(result, predictions, *args, **options)
        (result.folder / "digits.json").write_text(json.dumps(predictions, default=list))

    evaluate.write_result = write  # type: ignore[attr-defined]


def _count(found: dict[str, int], *, same: bool, name: str) -> None:
    found["tests"] += 1
    found["identical"] += same
    print(f"{name}: {'identical' if same else 'DIFFERENT'}", flush=True)


def _bytes(run: Path) -> tuple[bytes, bytes]:
    return (run / "predictions.csv").read_bytes(), (run / "digits.json").read_bytes()


def _journaled(run: Path) -> int:
    """Count the videos that a killed test left with scores."""
    lines = [line for path in run.glob("predictions.rank*.jsonl") for line in path.read_text().splitlines()[1:]]
    return sum(json.loads(line)[2] is not None for line in lines if not line.startswith("{"))  # not a video in part


def _log(run: Path) -> str:
    return (run.parent / f"{run.name}.log").read_text()


if __name__ == "__main__":
    main()
