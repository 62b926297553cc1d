"""What `vidgn train data=folder data.root=DIR` with no other option gives on two made sets, beside a probe and chance.

    python -m experiments.own_rule run --folder DIR [--weights FILE] [--sets ...] [--seeds ...]    done cells are kept
    python -m experiments.own_rule table

Settings, written down before the first run:

    sets       `figures` and `yard` of experiments/made_sets.py, drawn for each seed; the rule was made without them
    command    no option but the folder, a seed, and where the run is written
    weights    image weights in VIDGN_WEIGHTS, or none at all
    probe      `vidgn probe`: logistic regression and k-NN on the mean features of the start, as it was before training:
               of the run's own net and views with image weights, of `init=motions` without. C and k are chosen on the
               validation videos; the better of the two on the test counts, in favour of the probe
    chance     the share of the largest class
    interval   95 %, bootstrap over test videos
    choice     if the default is below the probe in the mean over the seeds of a set, the rule is to be mended by
               training and validation videos alone
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.convert import processor_name
from experiments.grid import write_json
from experiments.made_sets import draw_figures, draw_yards
from vidgn.files.shipped import shipped_checkpoint

RESULTS = Path(__file__).parent / "results" / "own-rule.json"
SETS = {"figures": draw_figures, "yard": draw_yards}
STARTS = ("weights", "none")
SEEDS = (0, 1)
CHANCE = {"figures": 100 / 6, "yard": 50.0}


def main(options: Sequence[str] | None = None) -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--folder", type=Path, default=Path("own-rule"), help="for videos and runs")
    parser.add_argument("--weights", type=Path, help="image weights; without them those cells are left out")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(options)
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out.is_file() else {"cells": {}}
    if given.command == "table":
        print(table(results["cells"]))
        return
    for seed in given.seeds:
        for start in STARTS if given.weights is not None else STARTS[1:]:
            for name in given.sets:
                cell = results["cells"].setdefault(f"{name}_{start}_s{seed}", {})
                root, run = given.folder / f"{name}{seed}", given.folder / f"{name}_{start}_s{seed}"
                weights = None if start == "none" else given.weights
                if "default" not in cell:
                    cell["default"] = run_default(SETS[name](root, seed=seed), run, weights=weights, seed=seed)
                    write_json(given.out, {**results, **about()})
                if "probe" not in cell:
                    cell["probe"] = run_probe(root, run, weights=weights)
                    write_json(given.out, {**results, **about()})


def run_default(root: Path, run: Path, *, weights: Path | None, seed: int) -> dict[str, Any]:
    """Train with the default, and return the figures of its test."""
    began, before = time.monotonic(), _cpu_seconds()
    _vidgn(["train", *_data(root), f"seed={seed}", f"hydra.run.dir={run.absolute()}"], weights)
    wall, cpu = time.monotonic() - began, _cpu_seconds() - before
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {
        "top1": metrics["video_top1"], "interval": metrics["intervals"]["video_top1"],
        "test_videos": metrics["videos_expected"], "wall_minutes": round(wall / 60, 1), "cpu_seconds": round(cpu, 1),
        "chosen": chosen_options(run / "config.yaml"),
    }  # fmt: skip


def run_probe(root: Path, run: Path, *, weights: Path | None) -> dict[str, Any]:
    """Probe the start of a run, and return the figures of the better probe."""
    checkpoint = shipped_checkpoint("motions") if weights is None else run / "checkpoints" / "best.ckpt"
    features = f"{run.absolute()}-features"
    out = _vidgn(["probe", f"ckpt={checkpoint}", *_data(root), "--json", "--out", features], weights)
    probes: list[dict[str, Any]] = json.loads(out.strip().splitlines()[-1])["probes"]
    best = max(probes, key=lambda one: float(one["test"]))
    return {"top1": best["test"], "interval": best["interval"], "probes": probes}


def _data(root: Path) -> tuple[str, str]:
    return "data=folder", f"data.root={root.absolute()}"


def chosen_options(config: Path) -> Mapping[str, Any]:
    """Return what the run chose, without the names of files."""
    from vidgn.runs.command_line import parse_config

    chosen = parse_config(config.read_text(encoding="utf-8"))["chosen"]
    return {name: Path(str(value)).name if name == "init" else value for name, value in chosen.items()}


def _vidgn(arguments: Sequence[str], weights: Path | None) -> str:
    environment = {**os.environ, "VIDGN_WEIGHTS": "none" if weights is None else str(weights.absolute())}
    command = [sys.executable, "-m", "vidgn", *arguments]
    return subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def about() -> dict[str, Any]:
    """Return how the numbers came about."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"command": "python -m experiments.own_rule run", "versions": versions, "processor": processor_name(),
            "threads": os.environ.get("OMP_NUM_THREADS", "all")}  # fmt: skip


def table(cells: Mapping[str, Any]) -> str:
    """Return the results as Markdown: a row per set, start and seed that was run."""
    lines = ["| set | start | seed | default | probe | chance | CPU seconds |", "|---|---|---|---|---|---|---|"]
    for key, cell in sorted(cells.items()):
        if "default" not in cell:
            continue
        name, start, seed = key.split("_")
        texts = [_percent(cell.get(method)) for method in ("default", "probe")]
        title = "image weights" if start == "weights" else "no weights"
        seconds = f"{cell['default']['cpu_seconds']:.0f}"
        row = [name, title, seed[1:], *texts, f"{CHANCE[name]:.1f} %", seconds]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _percent(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "missing"
    low, high = figure["interval"]
    return f"{figure['top1']:.1f} % ({low:.0f} to {high:.0f})"


if __name__ == "__main__":
    main()
