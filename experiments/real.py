"""What a person's few videos give: a probe, the classifier alone, by number of clips per class.

    python -m experiments.real describe --weights FILE --videos DIR     minutes; goes on where it was interrupted
    python -m experiments.real heads                                    seconds per cell; cells that are done stay
    python -m experiments.real table
    python -m experiments.real features | tune | norms | fine-tune | norms-table      see experiments/real_norms.py

DIR holds train/CLASS/*.mp4 and val/CLASS/*.mp4 with the recording before the last `_` of a name. Settings, written down
before the comparison:

    net        frames_r50 up to res4 with published batch-norm weights in torchvision's names, frozen
    frames     8, the middles of eight equal parts, whole, short side 128 px
    probe      mean and deviation over time of channel means, and mean of channel maxima; C = 1e-2
    head       what `fit_head` sees: means and maxima and the deviations of both; C by its cross-validation
    clips      10, 20 or all training clips per class, drawn by a seed; a seed draws for both methods
    test       every validation clip, once; nothing is chosen on it
    interval   95 %, 1000 bootstrap samples of recordings


Fine-tuning trains the last two blocks of res4 of an inflated I3D and its classifier, as experiments/real_norms.py does:
short clips of 80 px, 8 per step, FINE_TUNE_EPOCHS, with the norm and rate of the lowest validation error of `tune`.
"""

import argparse
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments import real_features, real_norms, real_tables
from vidgn.data.clips import clip_frames
from vidgn.data.transforms import Normalize, resize, scaled_size
from vidgn.data.video import open_video
from vidgn.models.registry import build_net
from vidgn.models.weights.load import load_weights
from vidgn.training.own_data.fit_head import STRENGTHS, cross_validate, fit_rotated

RESULTS = Path(__file__).parent / "results"
FRAMES, SIDE = 8, 128
CLIPS: tuple[int | None, ...] = (10, 20, None)  # per class; None: all
SEEDS = (0, 1, 2)
METHODS = ("probe", "head", "fine-tuning")
PROBE_STRENGTH = 1e-2
FINE_TUNE_EPOCHS = 8
_RESAMPLES = 1000
_SAVE_EVERY = 20
_NORM_COMMANDS = {
    "features": "pass every clip through the frozen part of the I3D, once",
    "tune": "choose a rate for each norm on the validation part",
    "norms": "train and test every cell of the comparison of norms that is not done",
    "fine-tune": "train and test every cell of fine-tuning that is not done",
    "norms-table": "print the comparison of norms as Markdown and draw its curves",
}


class Described(NamedTuple):
    """Channel means and maxima of the frames of a split, float32 (N, T, 2C), with labels and recordings, (N,)."""

    frames: Tensor
    labels: Tensor
    groups: NDArray[np.str_]


def main(options: Sequence[str] | None = None) -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path("real-descriptors"), help="folder of the descriptors")
    parser.add_argument("--out", type=Path, default=RESULTS / "real-heads.json")
    commands = parser.add_subparsers(dest="command", required=True)
    describe = commands.add_parser("describe", help="pass every clip through the frozen net, once")
    describe.add_argument("--weights", type=Path, required=True)
    describe.add_argument("--videos", type=Path, required=True)
    describe.add_argument("--stride-1x1", action="store_true", help="as the weights were trained")
    commands.add_parser("heads", help="fit and score every cell that is not done")
    commands.add_parser("table", help="print the results as Markdown")
    for name, text in _NORM_COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--results", type=Path, default=real_norms.RESULTS, help="folder of a file per cell")
        if name != "norms-table":
            command.add_argument("--weights", type=Path, required=True)
            command.add_argument("--stride-1x1", action="store_true", help="as the weights were trained")
        if name == "features":
            command.add_argument("--videos", type=Path, required=True)
        if name == "norms-table":
            command.add_argument("--figure", type=Path, help="file to draw the curves to")
        if name == "tune":
            command.add_argument("--norms", nargs="+", choices=real_norms.NORMS, default=list(real_norms.NORMS))
        if name == "norms":
            command.add_argument("--seeds", type=int, nargs="+", default=list(real_norms.SEEDS))
            lengths = list(real_features.LENGTHS)
            command.add_argument("--lengths", nargs="+", choices=lengths, default=lengths)
    given = parser.parse_args(options)
    if given.command == "describe":
        net, normalize = load_trunk(given.weights, stride_1x1=given.stride_1x1)
        for split in ("train", "val"):
            describe_split(net, normalize, given.videos / split, given.cache / f"{split}.npz")
    elif given.command == "heads":
        run_cells(read_split(given.cache / "train.npz"), read_split(given.cache / "val.npz"), given.out)
    elif given.command == "table":
        print(table(json.loads(given.out.read_text())))
    else:
        _compare_norms(given)


def _compare_norms(given: argparse.Namespace) -> None:
    """Do one step of the comparison of norms."""
    if given.command == "norms-table":
        print(real_tables.render(given.results, figure=given.figure))
        return
    if given.command == "features":
        net, normalize = real_features.load_i3d(given.weights, norm="frozen_bn", stride_1x1=given.stride_1x1)
        real_features.cache_features(real_features.split_res4(net)[0], normalize, given.videos, given.cache)
        return
    short = real_features.read_features(given.cache, "train", "short")
    tails = real_norms.make_tails(given.weights, short, stride_1x1=given.stride_1x1)
    if given.command == "fine-tune":
        fine_tune_cells(tails, given.cache, given.results, given.out)
        return
    if given.command == "tune":
        real_norms.tune(tails, real_norms.read_parts(given.cache, "short"), out=given.results, norms=given.norms)
        return
    rates = real_norms.chosen_rates(given.results)
    parts = {length: real_norms.read_parts(given.cache, length) for length in given.lengths}
    real_norms.run_grid(tails, parts, rates=rates, out=given.results, seeds=given.seeds)


def load_trunk(weights: Path, *, stride_1x1: bool) -> tuple[Any, Normalize]:
    """Return the net up to res4 and what brings pixels to it."""
    model = {"name": "frames_r50", "width": 64, "dropout": 0.0, "last": "res4", "stride_1x1": stride_1x1}
    net = build_net(model=model, norm={"name": "frozen_bn"}, crop=112, num_classes=1).eval()
    report = load_weights(net, weights)
    if report.input_mean is None or report.input_std is None:
        raise ValueError(f"--weights {weights} do not say which pixels they take; give image weights.")
    return net, Normalize(mean=report.input_mean, std=report.input_std)


def describe_split(net: Any, normalize: Normalize, folder: Path, file: Path) -> None:
    """Write means and maxima of the frames of all clips of a folder; clips that the file has are left out."""
    paths = sorted(folder.glob("*/*.mp4"))
    done = dict(np.load(file)) if file.is_file() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths, start=1):
        name = f"{path.parent.name}/{path.name}"
        if name not in done:
            done[name] = describe_clip(net, normalize, path).astype(np.float16)
            if number % _SAVE_EVERY == 0:
                np.savez(file, **done)
    np.savez(file, **done)


@torch.no_grad()
def describe_clip(net: Any, normalize: Normalize, path: Path) -> NDArray[np.float32]:
    """Return (T, 2C)."""
    with open_video(str(path)) as video:
        indices = clip_frames(len(video), num_clips=1, clip_len=FRAMES, span=FRAMES, rule="segments")[0]
        distinct, places = np.unique(indices, return_inverse=True)
        frames = np.asarray(video.read(distinct))[places]
    size = scaled_size(*frames.shape[1:3], short_side=SIDE)
    x = net.features(normalize(resize(frames, size=size)[None].contiguous()))[0]  # (C,T,H,W)
    described: NDArray[np.float32] = torch.cat([x.mean((2, 3)), x.amax((2, 3))]).T.numpy()
    return described


def read_split(file: Path) -> Described:
    """Read a file of `describe_split`; labels count classes in alphabetical order."""
    stored = dict(np.load(file))
    names = sorted(stored)
    classes = sorted({name.partition("/")[0] for name in names})
    labels = torch.tensor([classes.index(name.partition("/")[0]) for name in names])
    frames = torch.from_numpy(np.stack([stored[name] for name in names]).astype(np.float32))
    return Described(frames, labels, np.array([name.rpartition("_")[0] for name in names]))


def run_cells(train: Described, test: Described, out: Path) -> None:
    """Fit and score every cell that the file lacks, and write it after each."""
    result: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {"cells": {}}
    result["settings"] = {"frames": FRAMES, "side": SIDE, "probe_strength": PROBE_STRENGTH, "strengths": STRENGTHS}
    result["machine"] = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    result["clips"] = {"train": len(train.labels), "test": len(test.labels)}
    for clips in CLIPS:
        for seed in SEEDS if clips is not None else SEEDS[:1]:  # all clips are the same for every seed
            rows = draw(train, clips=clips, seed=seed)
            part = Described(train.frames[rows], train.labels[rows], train.groups[rows.numpy()])
            for method in ("probe", "head"):
                key = f"{method}_{clips or 'all'}_s{seed}"
                if key not in result["cells"]:
                    result["cells"][key] = score(method, part, test, seed=seed)
                    out.parent.mkdir(parents=True, exist_ok=True)
                    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def draw(train: "Described | real_features.Clips", *, clips: int | None, seed: int) -> Tensor:
    """Return rows of at most `clips` clips of each class."""
    order = np.random.default_rng(seed).permutation(len(train.labels))
    labels = train.labels.numpy()[order]
    kept = [order[labels == label][:clips] for label in np.unique(labels)]
    return torch.from_numpy(np.sort(np.concatenate(kept)))


def score(method: str, train: Described, test: Described, *, seed: int) -> dict[str, Any]:
    """Fit on one part, score the other; top-1 in percent with its interval over recordings."""
    began = time.process_time()
    values, queries = (_descriptors(method, part.frames) for part in (train, test))
    mean, deviation = values.mean(0), values.std(0, correction=0).clamp_min(1e-6)
    values, queries = (values - mean) / deviation, (queries - mean) / deviation
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    strength = PROBE_STRENGTH
    validated = None
    if method == "head":
        tried = cross_validate(values, train.labels, list(train.groups), num_classes=num_classes, seed=seed)
        best = max(range(len(tried)), key=lambda number: (tried[number].accuracy, -tried[number].loss))
        strength, validated = STRENGTHS[best], tried[best].accuracy
    weight, bias = fit_rotated(values, train.labels, strength=strength, num_classes=num_classes)
    right = ((queries @ weight.T + bias).argmax(1) == test.labels).numpy()
    low, high = group_interval(right, test.groups)
    return {
        "top1": round(100 * float(right.mean()), 2), "interval": [round(low, 2), round(high, 2)], "strength": strength,
        "cross_validated": validated, "train_clips": len(train.labels), "test_clips": len(test.labels),
        "fit_cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def group_interval(right: NDArray[np.bool_], groups: NDArray[np.str_]) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % of the accuracy in percent when recordings are drawn with replacement."""
    names, codes = np.unique(groups, return_inverse=True)
    hits, sizes = (np.bincount(codes, weights=weights) for weights in (right.astype(float), np.ones(len(right))))
    drawn = np.random.default_rng(0).integers(len(names), size=(_RESAMPLES, len(names)))
    shares = 100 * hits[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def fine_tune_cells(tails: Mapping[str, nn.Module], cache: Path, results: Path, out: Path) -> None:
    """Train and score every cell of `fine-tuning` that the file lacks; the norm and rate are those of `tune`."""
    train, test = (real_features.read_features(cache, split, "short") for split in ("train", "val"))
    norm, rate = real_norms.best_of_tuning(results)
    result = json.loads(out.read_text())
    for clips in CLIPS:
        for seed in SEEDS:  # with all clips, too: the classifier and the order are drawn
            key = f"fine-tuning_{clips or 'all'}_s{seed}"
            if key not in result["cells"]:
                rows = draw(train, clips=clips, seed=seed).numpy()
                parts = real_norms.Parts(train.take(rows), None, test)
                run = real_norms.train(tails[norm], parts, batch=8, rate=rate, seed=seed, epochs=FINE_TUNE_EPOCHS)
                right = np.array([bit == "1" for bit in run["test"]["plain"]["right"]])
                low, high = group_interval(right, test.groups)
                result["cells"][key] = {
                    "top1": run["test"]["plain"]["top1"], "interval": [round(low, 2), round(high, 2)], "norm": norm,
                    "rate": rate, "epochs": FINE_TUNE_EPOCHS, "train_clips": len(rows), "test_clips": len(right),
                    "fit_cpu_seconds": run["cpu_seconds"],
                }  # fmt: skip
                real_norms.write_result(out, result)


def table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table: the mean over seeds, and the interval of the first seed."""
    lines = ["| clips per class | " + " | ".join(METHODS) + " |", "|---" * (len(METHODS) + 1) + "|"]
    for clips in CLIPS:
        texts = []
        for method in METHODS:
            cells = [result["cells"].get(f"{method}_{clips or 'all'}_s{seed}") for seed in SEEDS]
            done = [cell for cell in cells if cell is not None]
            if not done:
                texts.append("missing")
                continue
            mean = sum(cell["top1"] for cell in done) / len(done)
            low, high = done[0]["interval"]
            texts.append(f"{mean:.1f} % ({low:.1f} to {high:.1f}; {len(done)} seed{'s' * (len(done) > 1)})")
        lines.append(f"| {clips or 'all'} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _descriptors(method: str, frames: Tensor) -> Tensor:
    """Return (N, D) of frames (N, T, 2C)."""
    mean, deviation = frames.mean(1), frames.std(1, correction=0)
    channels = frames.shape[2] // 2
    return torch.cat([mean, deviation[:, :channels] if method == "probe" else deviation], 1)


if __name__ == "__main__":
    main()
