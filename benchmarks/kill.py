"""Kill training runs at random moments, start them again with the same command, and compare with one never killed.

    python benchmarks/kill.py --json --kills 30

Each run trains a tiny net on the embedded motions: two epochs, validations, a checkpoint after every step, the final
test. Kills fall anywhere in a run, while a checkpoint is being written, in a validation or test, or on a reading
process, with 0, 1 and 2 of these in turn. A folder is killed in up to five times and then left to finish. `identical`
counts the kills of runs whose weights, optimizer, curves and predictions have the bits of the reference, `torn` the
checkpoints found damaged after a kill, `litter` the files that a run never killed would not leave.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

WORDS = (
    "data.train=2", "data.val=1", "data.test=1", "epochs=2", "batch=4", "num_clips=2", "model.width=8",
    "model.dropout=0.5", "crop=32", "clip_len=8", "span=16", "trainer.accelerator=cpu", "save_every_steps=1",
    "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1",
)  # fmt: skip
KILLS_PER_RUN = 5
MOMENTS = ("anywhere", "save", "evaluation", "worker")
PATIENCE = 300.0  # seconds until a run that does not end counts as hanging


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the runs go; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vidgn-kill-"))
    os.environ.setdefault("VIDGN_CACHE", str(folder / "cache"))
    result = kill(options.kills, folder=folder, seed=options.seed)
    if options.folder is None and result["identical"] == options.kills:
        shutil.rmtree(folder)
    print(json.dumps(result) if options.json else f"{result}", flush=True)


def kill(kills: int, *, folder: Path, seed: int, moments: Sequence[str] = MOMENTS) -> dict[str, int]:
    """Kill `kills` times; return the counts."""
    draw = random.Random(seed)
    import vidgn.tools.train  # noqa: F401  # here, so that the runs start quickly

    wait(start(folder / "reference", workers=0))  # writes the videos too
    began = time.monotonic()
    wait(start(folder / "again", workers=0))
    duration = time.monotonic() - began
    reference = digest(folder / "reference")
    if digest(folder / "again") != reference:
        raise SystemExit("two runs that nobody killed differ; nothing can be said about killed ones")
    names = files(folder / "reference")
    found = {"kills": 0, "identical": 0, "torn": 0, "litter": 0}
    number = 0
    while found["kills"] < kills:
        run, workers = folder / f"run{number}", number % 3
        done = 0
        for _ in range(min(KILLS_PER_RUN, kills - found["kills"])):
            moment = moments[(found["kills"] + done) % len(moments)]
            if not kill_once(run, workers=workers, moment=moment, draw=draw, duration=duration):
                break  # it had finished before
            done += 1
            found["torn"] += torn(run / "checkpoints")
        wait(start(run, workers=workers))
        same = digest(run) == reference
        found["kills"] += done
        found["identical"] += done * same
        found["litter"] += len(files(run) - names)
        print(f"run {number}, {workers} workers: {done} kills, {'identical' if same else 'DIFFERENT'}", flush=True)
        number += 1
    return found


def kill_once(run: Path, *, workers: int, moment: str, draw: random.Random, duration: float) -> bool:
    """Start a run and kill it; return whether it lived until then."""
    process = start(run, workers=workers)
    earliest = time.monotonic() + draw.uniform(0.05, 0.7) * duration
    while time.monotonic() < earliest or not _is_moment(run, process, moment):
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        if time.monotonic() > earliest + duration:
            break  # the moment did not come: anywhere then
        time.sleep(0.0005)
    reading = children(process)
    if moment == "worker" and reading:
        os.kill(draw.choice(reading), signal.SIGKILL)
        return _end(process) != 0
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def _is_moment(run: Path, process: int, moment: str) -> bool:
    if moment == "save":
        return any((run / "checkpoints").glob("*.part"))
    if moment == "evaluation":
        return any(run.glob("predictions.rank*.jsonl"))
    return moment == "anywhere" or bool(children(process))


def start(run: Path, *, workers: int) -> int:
    """Start a run in a child of this process, which has imported all that it needs; return its id."""
    import vidgn.tools.train
    from vidgn.tools.config import command

    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)
    run.parent.mkdir(parents=True, exist_ok=True)
    with (run.parent / f"{run.name}.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = ["train.py", *WORDS, f"data.num_workers={workers}", f"hydra.run.dir={run}"]
    status = 0
    try:
        command("train")(vidgn.tools.train.train)()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)


def wait(process: int) -> None:
    """Wait for a run that must succeed."""
    if status := _end(process):
        raise SystemExit(f"a run that nobody killed ended with status {status}; see its .log file")


def _end(process: int) -> int:
    """Return the status of a run, which must end by itself."""
    latest = time.monotonic() + PATIENCE
    while time.monotonic() < latest:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    raise SystemExit(f"a run did not end within {PATIENCE:.0f} s after a kill")


def children(process: int) -> list[int]:
    """Return the child processes, on Linux."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended since
            found += [int(word) for word in path.read_text().split()]
    return found


def torn(checkpoints: Path) -> int:
    """Count the checkpoints that do not load, or whose sum is wrong."""
    from vidgn.checkpoint import read_state

    wrong = 0
    for path in checkpoints.glob("*.ckpt"):
        try:
            read_state(path)
        except ValueError:
            wrong += 1
    return wrong


def digest(run: Path) -> dict[str, str]:
    """Return sums of all that a run leaves, but times, places and its own words."""
    from vidgn.checkpoint import read_state

    found = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in ("metrics.csv", "predictions.csv")}
    for name in ("best", "last"):
        state = read_state(run / "checkpoints" / f"{name}.ckpt")
        summed = hashlib.sha256()
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "train_counts"):
            for path, value in _leaves(state[key], key):
                plain = value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()
                summed.update(path.encode() + plain)
        found[name] = summed.hexdigest()
    metrics = json.loads((run / "metrics.json").read_text())
    found["metrics.json"] = repr(
        {key: metrics[key] for key in ("video_top1", "clip_top1", "videos_scored", "failures")}
    )
    return found


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}")
    else:
        yield path, value


def files(run: Path) -> set[str]:
    """Return the names of the files of a run; TensorBoard's carry a time, and each start has its own."""
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(("tensorboard/", "error.log"))}


if __name__ == "__main__":
    main()
