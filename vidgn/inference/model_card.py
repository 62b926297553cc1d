"""A model card from what a checkpoint says of itself and from the metrics of its test."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vidgn.checkpoints.description import Description
from vidgn.terminal.escape import printable

_ACCURACIES = {
    "video_top1": "video top-1", "video_top5": "video top-5", "clip_top1": "clip top-1", "clip_top5": "clip top-5",
}  # fmt: skip
_SHOWN_CLASSES = 50


def model_card(name: str, about: Description, metrics: Mapping[str, Any] | None, *, parameters: int) -> str:
    """Return README.md of a repository: the header that the hub reads, then text for people."""
    return "\n".join([*_header(name, about, metrics), "", f"# {name}", "", *_body(name, about, metrics, parameters)])


def _header(name: str, about: Description, metrics: Mapping[str, Any] | None) -> list[str]:
    """Return YAML; JSON strings are YAML strings, so that no name can break out of its place."""
    lines = ["---", "library_name: vidgn", "pipeline_tag: video-classification"]
    lines += ["tags: [video-classification, action-recognition, group-normalization]"]
    if metrics is not None and not _num_left_out(metrics):  # the hub shows these as the model's results
        data = json.dumps(about.data_name)
        lines += ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
        lines += ["  - task: {type: video-classification}", f"    dataset: {{name: {data}, type: {data}}}"]
        lines += ["    metrics:"]
        lines += [
            f"    - {{type: accuracy, name: {json.dumps(label)}, value: {float(metrics[key])}}}"
            for key, label in _ACCURACIES.items()
        ]
    return [*lines, "---"]


def _body(name: str, about: Description, metrics: Mapping[str, Any] | None, parameters: int) -> list[str]:
    details = ", ".join(f"{key} {value}" for key, value in about.model.items() if key != "name")
    return [
        f"A video classifier: {about.net_name} ({details}) with norm `{about.norm['name']}`,",
        f"{parameters:,} parameters, {len(about.classes)} classes. It was trained on the data set",
        f"`{about.data_name}` with vidgn (Group Normalization, arXiv 1803.08494, section 4.3).", "",
        "## Use", "",
        "    pip install 'vidgn[hub]'", f"    vidgn pull {name} --out model",
        "    vidgn predict VIDEO.mp4 --ckpt model", "",
        "## Results", "", *_results(metrics), "",
        "## What it takes", "",
        f"- {about.clip_len} frames of {about.span} consecutive ones, at the video's own rate",
        f"- training crop {about.crop} px; pixels 0..1, mean {_numbers(about.mean)}, "
        f"std {_numbers(about.std)}", "",
        "## Classes", "", _classes(about.classes), "",
        "## Limits", "",
        "It names one of its classes for every video, also where none fits. The numbers hold for that data set and",
        "that protocol. Who uses it must check whether it works on other data, and what the data's licence allows.",
        "",
        f"Trained with {', '.join(f'{key} {value}' for key, value in about.versions.items())}.", "",
    ]  # fmt: skip


def _results(metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["No test of this checkpoint was recorded."]
    rows = [f"| {label} | {metrics[key]:.2f} % |" for key, label in _ACCURACIES.items()]
    counts = f"{metrics['videos_scored']} scored / {metrics['videos_expected']} expected"
    protocol = f"{metrics['protocol']}. Videos: {counts} / {metrics['videos_failed']} failed (counted as wrong)."
    left = _num_left_out(metrics)
    part = [f"**A part of the test: {left:,} of its videos were not scored.**", ""] if left else []
    seen = metrics.get("trained_on")
    part += [f"**{seen:,} of the test videos were trained on.**", ""] if seen else []
    return [*part, "| accuracy | |", "|---|---|", *rows, "", protocol]


def _num_left_out(metrics: Mapping[str, Any]) -> int:
    """Return how many videos of the test a limit left out."""
    return int(metrics["videos_expected"] - metrics["videos_scored"] - metrics["videos_failed"])


def _classes(classes: Sequence[str]) -> str:
    shown = ", ".join(f"`{printable(name).replace('`', '')}`" for name in classes[:_SHOWN_CLASSES])
    more = len(classes) - _SHOWN_CLASSES
    return f"{shown}, and {more} more in `vidgn.json`" if more > 0 else shown


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
