"""What a test says in words and cells: the labels of a video, its best answers, figures with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vidgn.data.manifests.manifest import Manifest
from vidgn.objective.target_tensors import best_combinations
from vidgn.objective.targets import Targets
from vidgn.scores.predictions import Prediction

JOIN = ";"  # between the classes of a video, and between those of a combination


def labels_of(video: int, manifest: Manifest) -> str:
    """Return the class of a video; several joined by `;`, those of heads in the order of the heads."""
    return JOIN.join(manifest.classes[label] for label in manifest.label_set(video))


def ranked_answers(item: Prediction, manifest: Manifest, count: int) -> list[str]:
    """Return class and score alternating, best first, ties by index; empty cells where there are no scores.

    Of heads a class is a combination, and its score the product of theirs.
    """
    if item.scores is None:
        return [""] * (2 * count)
    best = top_answers(item.scores, manifest.classes, manifest.targets, count)
    cells = [cell for name, score in best for cell in (name, f"{score:.6f}")]
    return cells + [""] * (2 * count - len(cells))


def top_answers(
    scores: Sequence[float], classes: Sequence[str], targets: Targets, count: int
) -> list[tuple[str, float]]:
    """Return the best answers with their scores: classes, or combinations of one class of each head (at most five)."""
    if targets.kind == "heads":
        labels, products = best_combinations(targets, torch.tensor([list(scores)], dtype=torch.float64))
        names = [JOIN.join(classes[label] for label in row) for row in labels[0].tolist()]
        return list(zip(names, products[0].tolist(), strict=True))[:count]
    order = sorted(range(len(scores)), key=lambda label: (-scores[label], label))[:count]
    return [(classes[label], scores[label]) for label in order]


def figure_lines(numbers: Mapping[str, Any]) -> list[str]:
    """Return lines for the console: the mean average precision or the heads, and the intervals.

    >>> figure_lines({"map": 41.5, "intervals": {"map": [38.0, 45.0]}, "intervals_over": "videos"})
    ['mAP      41.50 %', '95 % intervals over videos: map 38.00 to 45.00']
    """
    lines = [f"mAP     {numbers['map']:6.2f} %"] if "map" in numbers else []
    for name, head in numbers.get("heads", {}).items():
        lines.append(f"{name:7} {head['top1']:6.2f} % {head['top5']:6.2f} %")
    spans = [f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in numbers.get("intervals", {}).items()]
    if spans:
        count = f"{numbers['groups']} " if "groups" in numbers else ""
        lines.append(f"95 % intervals over {count}{numbers['intervals_over']}: {', '.join(spans)}")
    return lines
