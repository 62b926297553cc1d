"""Figure 1, Tables 1 to 3 and Figure 6 of the paper in miniature: `python -m experiments.images`.

What is done is not done again; stop it at any time. A second process, started beside the first, takes other runs.
Afterwards `python -m experiments.image_tables` writes images.md and its pictures.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import vidgn
from experiments.curves import PERCENTILES
from experiments.grid import RESULTS, Job, grid_options, run_once
from vidgn.data.synthetic.exposures import CLASSES, ExposuresSpec, draw_picture
from vidgn.models.net import VideoNet
from vidgn.norms import is_norm
from vidgn.optim import OptimSpec, build_optimizer

IMAGE_RESULTS = RESULTS.parent / "results-images"
BATCHES = (32, 16, 8, 4, 2)
CURVES = ("bn", "gn", "gn_ws")  # of Figure 1
RATES = (0.03, 0.06, 0.12, 0.24)  # at 32 pictures per step; one is chosen for each norm, by validation pictures
TUNING_SEED = 900  # of the runs that choose the rate; no run of the grid has it
_TRAIN, _VAL, _TEST = range(3)
_RECIPE = OptimSpec(lr_clips=32, schedule="cosine", drops=(), warmup=0.1)


@dataclass(frozen=True)
class Setting:
    """What all runs share, written down before the first one.

    Attributes:
        train: pictures per class to learn from, drawn again for each seed.
        val: pictures per class, the same for all runs: they choose the rate.
        test: pictures per class, the same for all runs.
        side: of a picture in pixels.
        crop: of what the net sees: a random part in training, the centre in tests.
        width: channels of the first layer; the published nets have 64.
        epochs: passes over the training pictures, the same for every cell.
        optim: the recipe; its rate is replaced by the chosen one and follows the linear rule.
    """

    train: int = 200
    val: int = 40
    test: int = 100
    side: int = 40
    crop: int = 32
    width: int = 8
    epochs: int = 15
    optim: OptimSpec = _RECIPE


@dataclass(frozen=True)
class Cell:
    """One point of a figure or table.

    Attributes:
        norm: a name of `vidgn.list_norms()`; `gn_ws` is `gn` with standardized kernels.
        batch: pictures per step.
        model: `c2d_r50` or `vgg16`.
    """

    norm: str
    batch: int = 32
    model: str = "c2d_r50"

    @property
    def name(self) -> str:
        """As files and tables have it: `gn_b8`, `vgg16_none_b32`."""
        return ("" if self.model == "c2d_r50" else f"{self.model}_") + f"{self.norm}_b{self.batch}"


def cells() -> list[Cell]:
    """Return Figure 1's and Table 2's cells, the other norms of Table 1 (the ends of Table 3), then Figure 6's."""
    figure1 = [Cell(norm, batch) for batch in BATCHES for norm in CURVES]
    return [*figure1, Cell("ln"), Cell("in"), *(Cell(norm, 32, "vgg16") for norm in ("none", "bn", "gn"))]


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says."""
    given = grid_options(arguments, about=__doc__, seeds=3, results=IMAGE_RESULTS, cached="drawn pictures")
    if given.smoke:
        with tempfile.TemporaryDirectory() as folder:
            run_grid([Cell("gn_ws", 4)], seeds=1, setting=smoke_setting(), results=Path(folder), cache=Path(folder))
    else:
        run_grid(cells(), seeds=given.seeds, setting=Setting(), results=given.results, cache=given.cache)


def smoke_setting() -> Setting:
    """Return a setting of few pictures and one epoch, which teaches nothing."""
    return replace(Setting(), train=8, val=2, test=2, epochs=1)


def run_grid(todo: list[Cell], *, seeds: int, setting: Setting, results: Path, cache: Path) -> None:
    """Choose the rates, then run what has no result yet and what no other process is at, seed by seed."""
    torch.set_num_threads(1)  # a run is the same on every machine, and two processes use two cores
    tuning = [(replace(cell, batch=32), TUNING_SEED, rate) for cell in _one_per_norm(todo) for rate in RATES]
    for cell, seed, rate in tuning:
        _run_once(cell, seed, rate, path=results / _tuning_name(cell, rate), setting=setting, cache=cache)
    for seed in range(seeds):
        for cell in todo:
            rate = chosen_rate(replace(cell, batch=32), results)
            if rate is not None:  # else another process is still at the runs that choose it
                _run_once(cell, seed, rate, path=Job(cell, seed).path(results), setting=setting, cache=cache)


def _one_per_norm(todo: list[Cell]) -> list[Cell]:
    return list({(cell.model, cell.norm): cell for cell in todo}.values())


def _tuning_name(cell: Cell, rate: float) -> str:
    return f"tuning-{cell.name}-{rate}.json"


def chosen_rate(cell: Cell, results: Path) -> float | None:
    """Return the rate with the smallest validation error (ties: the smaller rate); None: not all have been tried."""
    paths = [results / _tuning_name(cell, rate) for rate in RATES]
    if not all(path.exists() for path in paths):
        return None
    errors = [json.loads(path.read_text())["val_error"] for path in paths]
    return RATES[int(np.argmin(errors))]


def _run_once(cell: Cell, seed: int, rate: float, *, path: Path, setting: Setting, cache: Path) -> None:
    def work() -> dict[str, Any]:
        numbers = train(cell, seed=seed, rate=rate, setting=setting, data=draw(setting, seed=seed, cache=cache))
        return {"cell": cell.name, "seed": seed, "rate": rate, **numbers, "setting": asdict(setting)}

    if numbers := run_once(path, work, claim=cache / "claims" / f"images-{path.stem}"):
        print(f"{path.stem}: {numbers['test_error']} % of the test wrong", flush=True)


def draw(setting: Setting, *, seed: int, cache: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pictures (N, 3, S, S) uint8 and labels (N,) of `train` (a seed's own), `val` and `test` (of all runs)."""
    counts = {"train": (_TRAIN, setting.train, seed), "val": (_VAL, setting.val, 0), "test": (_TEST, setting.test, 0)}
    splits = {}
    for name, (stream, count, own) in counts.items():
        path = cache / f"images-{setting.side}-{name}-{count}-{own}.npy"
        if not path.exists():
            spec = ExposuresSpec(side=setting.side, seed=own)
            pictures = [
                draw_picture(label, spec=spec, key=(stream, number * count + index))
                for number, label in enumerate(CLASSES) for index in range(count)
            ]  # fmt: skip
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.stack(pictures).transpose(0, 3, 1, 2))
        splits[name] = torch.from_numpy(np.load(path)), torch.arange(len(CLASSES)).repeat_interleave(count)
    return splits


def train(
    cell: Cell, *, seed: int, rate: float, setting: Setting, data: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """Train a cell from random weights and test it; return its errors in percent and its curves."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = build(cell, setting=setting)
    pictures, labels = data["train"]
    steps_per_epoch = len(labels) // cell.batch
    optimizer, schedule = build_optimizer(
        net, replace(setting.optim, lr=rate), clips_per_step=cell.batch, is_norm=is_norm,
        total_steps=setting.epochs * steps_per_epoch,
    )  # fmt: skip
    curves = []
    for epoch in range(setting.epochs):
        net.train()
        wrong = 0
        for batch in torch.randperm(len(labels), generator=generator)[: steps_per_epoch * cell.batch].split(cell.batch):
            logits = net(_normalized(_cut(pictures[batch], setting.crop, generator)))
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            schedule.step()
            wrong += int((logits.argmax(1) != labels[batch]).sum())
        curves.append(
            {
                "epoch": epoch + 1,
                "train_error": round(100 * wrong / (steps_per_epoch * cell.batch), 2),
                "val_error": error(net, data["val"], crop=setting.crop),
                "percentiles": percentiles(net, data["val"][0], crop=setting.crop) if cell.model == "vgg16" else None,
            }
        )
    return {
        "val_error": curves[-1]["val_error"],
        "test_error": error(net, data["test"], crop=setting.crop),
        "steps": setting.epochs * steps_per_epoch,
        "curves": curves,
    }


def build(cell: Cell, *, setting: Setting) -> VideoNet:
    """Build the net of a cell."""
    norm = cell.norm.removesuffix("_ws")
    options = {"width": setting.width, "crop": setting.crop, "dropout": 0.0}
    options["weight_standardization"] = cell.norm.endswith("_ws")
    return vidgn.create_model(cell.model, norm=norm, num_classes=len(CLASSES), **options)


def _cut(pictures: Tensor, crop: int, generator: torch.Generator) -> Tensor:
    """Cut a random part out of each picture and mirror every other one."""
    room = pictures.shape[-1] - crop + 1
    tops, lefts = torch.randint(room, (2, len(pictures)), generator=generator).tolist()
    mirrored = torch.rand(len(pictures), generator=generator).lt(0.5).tolist()
    parts = [
        picture[:, top : top + crop, left : left + crop]
        for picture, top, left in zip(pictures, tops, lefts, strict=True)
    ]
    return torch.stack([part.flip(-1) if mirror else part for part, mirror in zip(parts, mirrored, strict=True)])


def _centre(pictures: Tensor, crop: int) -> Tensor:
    start = (pictures.shape[-1] - crop) // 2
    return pictures[..., start : start + crop, start : start + crop]


def _normalized(pictures: Tensor) -> Tensor:
    """Give a net clips (N, 3, 1, S, S) of one frame each."""
    return ((pictures.float() / 255 - 0.45) / 0.225).unsqueeze(2)


def _batches(pictures: Tensor, crop: int) -> Iterator[Tensor]:
    return (_normalized(_centre(part, crop)) for part in pictures.split(100))


@torch.inference_mode()
def error(net: VideoNet, split: tuple[Tensor, Tensor], *, crop: int) -> float:
    """Return the share of pictures whose centre is classified wrongly, in percent."""
    net.eval()
    chosen = torch.cat([net.scores(batch).argmax(1) for batch in _batches(split[0], crop)])
    return round(100 * float((chosen != split[1]).double().mean()), 2)


@torch.inference_mode()
def percentiles(net: VideoNet, pictures: Tensor, *, crop: int) -> list[float]:
    """Return the percentiles of Figure 6, of what the last convolution of VGG-16's blocks gives (conv5_3)."""
    seen: list[Tensor] = []
    convolution = [layer for layer in net.blocks[-2].modules() if isinstance(layer, nn.Conv3d)][-1]
    hook = convolution.register_forward_hook(lambda layer, args, output: seen.append(output))
    net.eval()
    try:
        for batch in _batches(pictures[::2], crop):
            net(batch)
    finally:
        hook.remove()
    points = torch.tensor(PERCENTILES, dtype=torch.float32) / 100
    return [round(value, 4) for value in torch.quantile(torch.cat(seen).flatten(), points).tolist()]


if __name__ == "__main__":
    main(sys.argv[1:])
