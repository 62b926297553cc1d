"""How well group norm imitates batch norm without training.

`python -m experiments.convert stages --weights FILE --videos DIR`: a ResNet-50 with published batch-norm weights in
torchvision's names, of which layer4 may be missing. One frame of each training video calibrates it; one frame of each
validation video measures the correlation of what the two nets give after layer1, layer2 and layer3. Groups and kernels
are chosen on the frames that calibrate. `--stride 1x1` puts the strides where He et al. trained their nets.

`python -m experiments.convert motions --work DIR`: see `experiments/convert_motions.py`.

DIR holds train/CLASS/*.mp4 and val/CLASS/*.mp4. Results are written to experiments/results/convert-stages.json.
"""

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from experiments.convert_motions import run_motions
from vidgn.data.transforms import resize
from vidgn.data.video import open_video
from vidgn.norms import convert_norm

RESULTS = Path(__file__).parent / "results"
SIZE = (128, 160)  # pixels of a frame
SEED = 0
STAGES = ("layer1", "layer2", "layer3")
# What is compared: arguments of convert_norm beside the clips; None: weights are copied and nothing is fitted.
METHODS: Mapping[str, Mapping[str, Any] | None] = {
    "copy": None,
    "affine": {},
    "affine and scales": {"scales": "fit"},
    "affine, scales and input scales": {"scales": "fit", "kernels": "scale"},
    "affine, scales and kernels": {"scales": "fit", "kernels": "fit"},
    "affine, 1 group": {"groups": (1,)},
    "affine and scales, 2 groups": {"groups": (2,), "scales": "fit"},
    "affine and scales, 1 group": {"groups": (1,), "scales": "fit"},
    "affine, scales and input scales, 1 group": {"groups": (1,), "scales": "fit", "kernels": "scale"},
    "affine, scales and kernels, 1 group": {"groups": (1,), "scales": "fit", "kernels": "fit"},
    "affine, scales and kernels, groups chosen": {"groups": (1, 2, 4, 8, 16, 32), "scales": "fit", "kernels": "fit"},
}


class Trunk(nn.Module):
    """A ResNet-50 up to layer3; gives the outputs of layer1, layer2 and layer3."""

    def __init__(self) -> None:
        super().__init__()
        net = torchvision.models.resnet50(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Take frames (N, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outputs = []
        for stage in STAGES:
            x = self.get_submodule(stage)(x)
            outputs.append(x)
        return tuple(outputs)


def main(options: Sequence[str] | None = None) -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    stages = commands.add_parser("stages", help="correlation of layer1 to layer3 with published weights")
    stages.add_argument("--weights", type=Path, required=True, help="state dict in torchvision's names")
    stages.add_argument("--videos", type=Path, required=True, help="folder with train/ and val/")
    stages.add_argument("--stride", choices=("3x3", "1x1"), default="3x3", help="which convolution has the stride")
    stages.add_argument("--clips", type=int, default=96, help="frames to calibrate with, and as many to measure with")
    stages.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    stages.add_argument("--out", type=Path, default=RESULTS / "convert-stages.json")
    motions = commands.add_parser("motions", help="batch norm to group norm on the drawn motions")
    motions.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    motions.add_argument("--work", type=Path, required=True, help="folder of the videos, nets and runs, which are kept")
    motions.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(options)
    if given.command == "motions":
        run_motions(seeds=given.seeds, work=given.work.absolute(), results=given.results)
        return
    known = json.loads(given.out.read_text()) if given.out.is_file() else {}
    result = measure_stages(given.weights, given.videos, frames=given.clips, methods=given.methods, stride=given.stride)
    result["methods"] = {**known.get("methods", {}), **result["methods"]}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, row in result["methods"].items():
        print(name, *(f"{stage} {row['correlation'][stage]:.3f}" for stage in STAGES), sep="  ")


def measure_stages(
    weights: Path, videos: Path, *, frames: int, methods: Sequence[str], stride: str = "3x3"
) -> dict[str, Any]:
    """Convert the trunk by each method and correlate its outputs with those of the batch-norm net."""
    teacher = load_trunk(weights)
    if stride == "1x1":
        move_strides(teacher)
    fit, test = (read_frames(videos / split, count=frames) for split in ("train", "val"))
    rows = {}
    for name in methods:
        student = copy.deepcopy(teacher)
        options, began = METHODS[name], time.process_time()
        calibrated = {} if options is None else {"calibrate": list(fit.split(16)), **options}
        report = convert_norm(student, "gn", **calibrated)
        rows[name] = {
            "correlation": dict(zip(STAGES, correlations(teacher, student, test), strict=True)),
            "r2": {layer.name: round(layer.r2, 4) for layer in report.fits},
            "groups": {layer.name: layer.num_groups for layer in report.fits},
            "kernels": [layer.name for layer in report.fits if layer.kernel],
            "frames": frames,
            "cpu_seconds": round(time.process_time() - began, 1),
        }
    return {
        "weights": weights.name, "size": SIZE, "seed": SEED, "stride": stride,
        "versions": {"torch": torch.__version__}, "processor": processor_name(), "methods": rows,
    }  # fmt: skip


def load_trunk(path: Path) -> Trunk:
    """Load the tensors up to layer3.

    Raises:
        ValueError: some of them are missing.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    trunk = Trunk().eval()
    missing = trunk.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise ValueError(f"--weights {path} lacks {', '.join(missing[:5])}; give a ResNet-50 in torchvision's names.")
    return trunk


def move_strides(trunk: Trunk) -> None:
    """Put each stride on a 1x1 convolution, as in arXiv 1512.03385; torchvision has it on the 3x3."""
    for stage in STAGES[1:]:
        block = trunk.get_submodule(f"{stage}.0")
        for name, stride in (("conv1", (2, 2)), ("conv2", (1, 1))):
            block.get_submodule(name).stride = stride  # type: ignore[assignment]


def processor_name() -> str:
    """Return the name that Linux knows the processor by."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def read_frames(folder: Path, *, count: int) -> Tensor:
    """Read the middle frame of `count` videos, normalized (N, 3, H, W).

    Raises:
        ValueError: there are fewer videos.
    """
    paths = sorted(folder.glob("*/*.mp4"))
    if len(paths) < count:
        raise ValueError(f"{folder} holds {len(paths)} videos in class folders; give a folder with {count} or more.")
    chosen = np.random.default_rng(SEED).permutation(len(paths))[:count]
    frames = []
    for index in chosen:
        with open_video(str(paths[index])) as video:
            frames.append(resize(video.read(np.array([len(video) // 2])), size=SIZE)[:, 0])  # (3, H, W)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (torch.stack(frames) / 255 - mean) / std


@torch.no_grad()
def correlations(teacher: nn.Module, student: nn.Module, frames: Tensor) -> list[float]:
    """Correlate each output of two nets over all frames, channels and positions."""
    pairs: list[list[Tensor]] = [[] for _ in STAGES]  # sums of 1, a, b, aa, bb, ab
    for part in frames.split(16):
        for stage, one, other in zip(pairs, teacher(part), student(part), strict=True):
            a, b = one.double().flatten(), other.double().flatten()
            stage.append(torch.stack([torch.tensor(float(len(a))), a.sum(), b.sum(), a @ a, b @ b, a @ b]).double())
    return [_correlation(torch.stack(stage).sum(0)) for stage in pairs]


def _correlation(sums: Tensor) -> float:
    count, a, b, aa, bb, ab = sums.tolist()
    return round((ab - a * b / count) / ((aa - a * a / count) * (bb - b * b / count)) ** 0.5, 4)


if __name__ == "__main__":
    main()
