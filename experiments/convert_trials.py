"""What else was tried to make a group-norm net imitate a batch-norm net without training: passes, means, groups.

    python -m experiments.convert_trials --runs RUN... --root ROOT
    python -m experiments.convert_trials --table

Each of `TRIALS` fits a group-norm net to the batch-norm net of a run on drawn motions, with training clips. Measured is
on how many clips of validation videos its class is that of the batch-norm net. No test video is read. The net with
absorbed means has biases in its convolutions, which no configuration has: it is for measuring alone.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from experiments.grid import write_json
from experiments.ship import processor
from vidgn.conversion.clips import Sizes, read_clips
from vidgn.inference.model import open_model
from vidgn.norms import convert_norm
from vidgn.norms.calibrate import LayerFit, calibrate_net
from vidgn.norms.weight_standardization import normalized_convolutions
from vidgn.runs.config import data_spec
from vidgn.runs.environment import versions
from vidgn.runs.manifests import find_videos

RESULTS = Path(__file__).parent / "results" / "convert-trials.json"
COMMAND = "python -m experiments.convert_trials --runs RUN... --root ROOT"
Fit = Callable[[nn.Module, nn.Module, Sequence[Tensor]], tuple[LayerFit, ...]]


def fit_once(teacher: nn.Module, student: nn.Module, clips: Sequence[Tensor], **options: Any) -> tuple[LayerFit, ...]:
    """Convert and fit in one pass."""
    return convert_norm(student, "gn", uneven="nearest", calibrate=clips, **options).fits


def fit_twice(teacher: nn.Module, student: nn.Module, clips: Sequence[Tensor], **options: Any) -> tuple[LayerFit, ...]:
    """Convert and fit, then fit again what the first pass left."""
    names = [fit.name for fit in fit_once(teacher, student, clips, **options)]
    return calibrate_net(teacher, student, names, clips, **options).layers


def fit_centred(
    teacher: nn.Module, student: nn.Module, clips: Sequence[Tensor], **options: Any
) -> tuple[LayerFit, ...]:
    """Take the mean of each batch norm away in the convolution before it, then fit."""
    absorb_means(student)
    return fit_once(teacher, student, clips, **options)


def absorb_means(net: nn.Module) -> None:
    """Give the convolutions of a batch-norm net a bias that takes the running means away; its outputs stay."""
    for name in normalized_convolutions(net):
        owner, _, part = name.rpartition(".")
        conv, norm = net.get_submodule(name), net.get_submodule(f"{owner}.{part.replace('conv', 'norm')}")
        means = norm.get_buffer("running_mean")
        conv.bias = nn.Parameter(-means.clone())
        means.zero_()


TRIALS: Mapping[str, tuple[Fit, Mapping[str, Any]] | None] = {
    "copied": None,
    "affine": (fit_once, {}),
    "affine, a second pass": (fit_twice, {}),
    "affine, means absorbed": (fit_centred, {}),
    "affine and scales": (fit_once, {"scales": "fit"}),
    "affine and scales, a second pass": (fit_twice, {"scales": "fit"}),
    "affine and scales, means absorbed": (fit_centred, {"scales": "fit"}),
    "affine, 8 groups": (fit_once, {"groups": (8,)}),
    "affine and scales, 8 groups": (fit_once, {"groups": (8,), "scales": "fit"}),
    "affine, 1 group": (fit_once, {"groups": (1,)}),
    "affine, groups of each layer by R^2": (fit_once, {"groups": (1, 2, 4, 8)}),
    "affine and scales, groups of each layer by R^2": (fit_once, {"groups": (1, 2, 4, 8), "scales": "fit"}),
}


def main(options: Sequence[str] | None = None) -> None:
    """Measure every trial that has no result yet, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run folders of batch-norm nets")
    parser.add_argument("--root", type=Path, help="data.root of their videos")
    parser.add_argument("--clips", type=int, default=96, help="to fit with, and as many to measure with")
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print what was measured")
    given = parser.parse_args(options)
    if not given.table and not (given.runs and given.root):
        parser.error("--runs and --root are needed; --table prints what was measured")
    result: dict[str, Any] = json.loads(given.out.read_text()) if given.out.is_file() else {"runs": {}}
    for run in given.runs:
        rows = result["runs"].setdefault(run.name, {})
        missing = [name for name in given.trials if name not in rows]
        if not missing:
            continue
        result |= {"clips": given.clips, "versions": versions(), "processor": processor(), "command": COMMAND}
        teacher, train, val = read(run, root=given.root, count=given.clips)
        for name in missing:
            rows[name] = measure(name, teacher, train, val)
            write_json(given.out, result)
    print(table(result["runs"]))


def read(run: Path, *, root: Path, count: int) -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    """Return the net of a run, and clips of its training and of its validation videos in batches of 8."""
    model = open_model(run, fused=False, device="cpu")
    spec = data_spec({**model.description.data, "root": str(root)})
    manifests = find_videos(spec, splits=("train", "val"), num_classes=len(model.classes))
    train, val = (
        read_clips(
            manifests, split, spec=spec, sizes=Sizes(model.clip, model.crop), count=count,
            normalize=model.classifier.normalize, batch=8, seed=0,
        )
        for split in ("train", "val")
    )  # fmt: skip
    return model.classifier.net, list(train), list(val)


def table(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the agreement of each trial in percent as Markdown: one column per run."""
    lines = ["| fit | " + " | ".join(runs) + " |", "|---" * (len(runs) + 1) + "|"]
    for name in TRIALS:
        cells = [f"{rows[name]['agreement']:.1f}" if name in rows else "" for rows in runs.values()]
        lines += [f"| {name} | {' | '.join(cells)} |"] if any(cells) else []
    return "\n".join(lines)


def measure(name: str, teacher: nn.Module, train: Sequence[Tensor], val: Sequence[Tensor]) -> dict[str, Any]:
    """Convert a copy of the batch-norm net; return on how many percent of the clips its class is the same."""
    student, trial, began = copy.deepcopy(teacher), TRIALS[name], time.process_time()
    fits: tuple[LayerFit, ...] = ()
    if trial is None:
        convert_norm(student, "gn", uneven="nearest")
    else:
        fits = trial[0](teacher, student, train, **trial[1])
    seconds = time.process_time() - began
    same = predict(student, val) == predict(teacher, val)
    return {
        "agreement": round(100 * same.double().mean().item(), 2), "cpu_seconds": round(seconds, 1),
        "mean_r2": round(mean(fit.r2 for fit in fits), 4) if fits else None,
        "groups": sorted({fit.num_groups for fit in fits}),
    }  # fmt: skip


@torch.no_grad()
def predict(net: nn.Module, clips: Sequence[Tensor]) -> Tensor:
    """Return the class (N,) of each clip."""
    net.eval()
    return torch.cat([net(batch).argmax(1) for batch in clips])


if __name__ == "__main__":
    main()
