"""Train the fused net on motions in float32 and in bfloat16, three seeds each, and compare the loss curves.

    python benchmarks/precision.py --json      # about five minutes on two idle cores

bfloat16 is what `trainer.precision=bf16-mixed` is: activations in bfloat16 from end to end; weights, their gradients,
the optimizer and the statistics of norms in float32. A seed sets weights, order and clips; the two precisions of a
seed differ in nothing else. Parity: the mean difference of the curves lies within what two seeds differ by.
"""

import argparse
import itertools
import json
import statistics

import torch
from torch import Tensor, nn

from vidgn.data.synthetic.motions import CLASSES, MotionsSpec, draw_video
from vidgn.data.transforms import Normalize
from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.fuse.rewrite import fuse
from vidgn.norms import make_norm

FRAMES, STRIDE, SIDE, WIDTH, BATCH = 16, 2, 48, 16, 12


def main() -> None:
    """Train six times and print the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=360)
    parser.add_argument("--every", type=int, default=40, help="steps that one point of a curve averages")
    parser.add_argument("--videos", type=int, default=20, help="per class to learn from; half as many to test on")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last")
    args = parser.parse_args()
    videos, tests = draw(args.videos, split=0), draw(max(1, args.videos // 2), split=1)
    curves: dict[str, list[list[float]]] = {"float32": [], "bfloat16": []}
    errors: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    print(f"motions, {len(videos)} videos, {FRAMES} frames x stride {STRIDE}, {SIDE} px, width {WIDTH}, batch {BATCH}")
    for seed, name in itertools.product(range(3), curves):
        losses, error = train(videos, tests, seed=seed, half=name == "bfloat16", steps=args.steps)
        points = [statistics.mean(losses[i : i + args.every]) for i in range(0, args.steps, args.every)]
        curves[name].append(points)
        errors[name].append(error)
        print(f"seed {seed} {name:9} test error {error:5.1f} %  loss", *(f"{p:.3f}" for p in points), flush=True)
    result = compare(curves) | {f"test_error_{name}": round(statistics.mean(e), 2) for name, e in errors.items()}
    for name, value in result.items():
        print(f"{name:32} {value}")
    if args.json:
        print(json.dumps(result))


def train(
    videos: list[tuple[Tensor, int]], tests: list[tuple[Tensor, int]], *, seed: int, half: bool, steps: int
) -> tuple[list[float], float]:
    """Return the loss of every step and the test error in percent."""
    torch.manual_seed(seed)
    spec = I3DSpec(num_classes=len(CLASSES), width=WIDTH, window=2, dropout=0.0)
    net = fuse(build_i3d(spec, norm=make_norm("gn", num_groups=WIDTH // 2)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(videos), (BATCH,), generator=generator).tolist()
        clips = torch.stack([cut(videos[i][0], generator) for i in chosen])
        labels = torch.tensor([videos[i][1] for i in chosen])
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(net(Normalize()(clips)).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    wrong = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for video, label in tests:
            wrong += int(net.eval()(Normalize()(cut(video, torch.Generator().manual_seed(0))[None])).argmax()) != label
    return losses, 100 * wrong / len(tests)


def compare(curves: dict[str, list[list[float]]]) -> dict[str, float]:
    """Return how far the precisions are apart, and how far the seeds are."""
    pairs = zip(curves["float32"], curves["bfloat16"], strict=True)
    precisions = [abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)]
    several = itertools.combinations(curves["float32"], 2)
    seeds = [abs(a - b) for one, other in several for a, b in zip(one, other, strict=True)]
    return {
        "loss_between_precisions": round(statistics.mean(precisions), 4),
        "loss_between_seeds": round(statistics.mean(seeds), 4),
        "last_loss_float32": round(statistics.mean(curve[-1] for curve in curves["float32"]), 4),
        "last_loss_bfloat16": round(statistics.mean(curve[-1] for curve in curves["bfloat16"]), 4),
    }


def draw(count: int, *, split: int) -> list[tuple[Tensor, int]]:
    """Draw `count` videos per class: uint8 (3, N, H, W) and the label."""
    spec = MotionsSpec(side=SIDE)
    found = []
    for label, name in enumerate(CLASSES):
        for number in range(count):
            frames = draw_video(name, spec=spec, key=(split, label * count + number))
            found.append((torch.from_numpy(frames).permute(3, 0, 1, 2), label))
    return found


def cut(video: Tensor, generator: torch.Generator) -> Tensor:
    """Cut a clip (3, T, H, W) at a random place."""
    span = FRAMES * STRIDE
    start = int(torch.randint(video.shape[1] - span + 1, (), generator=generator))
    return video[:, start : start + span : STRIDE]


if __name__ == "__main__":
    main()
