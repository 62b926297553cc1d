"""What a run leaves behind, in sums that two equal runs share; `kill.py` and the tests compare runs by it."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from vidgn.checkpoints.checkpoint import read_state

OWN = ("vidgn", "curves")  # parts of a checkpoint that hold paths, words and versions, or sizes of files


def digest(run: Path) -> dict[str, str]:
    """Return sums of all that a run leaves, but times, places and its own words."""
    found = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in ("metrics.csv", "predictions.csv")}
    ledger = run / "quarantine.jsonl"
    rows = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.is_file() else []
    found["quarantine"] = repr(sorted((row["split"], row["video"], row["epoch"]) for row in rows))
    for name in ("best", "last"):
        state = read_state(run / "checkpoints" / f"{name}.ckpt")
        summed = hashlib.sha256()
        for key in sorted(set(state) - set(OWN)):
            for path, value in _leaves(state[key], key):
                if ".quarantine" in path:  # a copy of the ledger, with times, as far as reading processes were ahead
                    continue
                if ".val_loop.batch_progress.total" in path:  # counts a validation twice that was begun twice
                    continue
                plain = value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()
                summed.update(path.encode() + plain)
        found[name] = summed.hexdigest()
    metrics = json.loads((run / "metrics.json").read_text())
    found["metrics.json"] = repr({name: metrics[name] for name in sorted(metrics) if name not in _CHANGING})
    lines = {name: points for name, points in curves(run).items() if not name.startswith("pace/")}  # seconds and bytes
    found["tensorboard"] = hashlib.sha256(repr(lines).encode()).hexdigest()
    return found


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of every curve, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells what a restart hides
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)] for name in sorted(events.Tags()["scalars"])
    }


def files(run: Path) -> set[str]:
    """Return the names of the files of a run; TensorBoard's carry a time, and each start has its own."""
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(("tensorboard/", "error.log"))}


def torn(checkpoints: Path) -> int:
    """Count the checkpoints that do not load, or whose sum is wrong."""
    wrong = 0
    for path in checkpoints.glob("*.ckpt"):
        try:
            read_state(path)
        except ValueError:
            wrong += 1
    return wrong


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}")
    else:
        yield path, value


_CHANGING = ("checkpoint", "seconds", "device", "versions")  # of metrics.json: a path, a time, the machine
