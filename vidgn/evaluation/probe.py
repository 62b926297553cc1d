"""How much a net knows of other classes: features once, then simple classifiers in seconds (`vidgn probe`).

The features of a video are the mean of res5 over positions, crops and clips of the checkpoint's own test. They are kept
in the output folder, and computed again only for other weights, videos or views.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from torch import Tensor

from vidgn.classifier import VideoClassifier
from vidgn.data.clips import ClipSpec
from vidgn.data.images.module import data_module
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import VideoDataModule
from vidgn.data.spec import SPLITS, Split
from vidgn.data.transforms import CropSpec
from vidgn.evaluation.evaluate import data_of, protocol
from vidgn.evaluation.linear import Features, logistic, nearest
from vidgn.evaluation.published import open_checkpoint
from vidgn.evaluation.restore import restore
from vidgn.files.outputs import replacing
from vidgn.files.whole_files import sum_of
from vidgn.runs.command_line import check_words
from vidgn.runs.config import EvalConfig, check_view_spec
from vidgn.runs.manifests import find_videos, usable
from vidgn.runs.resume import fingerprint
from vidgn.runs.session import compose_options
from vidgn.runs.split import described_split
from vidgn.scores.statistics import bootstrap
from vidgn.terminal.console import say


class Probe(NamedTuple):
    """One classifier of the features.

    Attributes:
        classifier: k-NN or logistic regression.
        value: its k or C, chosen on the validation videos.
        val: top-1 in percent there.
        test: top-1 in percent on the test videos; one that could not be read is wrong.
        interval: of the latter, 95 %, by the bootstrap over videos.
    """

    classifier: str
    value: float
    val: float
    test: float
    interval: tuple[float, float]


def run_probe(options: Sequence[str], *, folder: str, out: TextIO, device: torch.device, as_json: bool = False) -> int:
    """Print what simple classifiers reach on the features of a checkpoint; return 0.

    Args:
        options: of eval.py: ckpt=CKPT data=folder data.root=DIR.
        folder: where the features are kept.
        out: where to print.
        device: that computes them.
        as_json: print one JSON object.

    Raises:
        ValueError: an unknown option, or a split without a video that can be read.
    """
    check_words("eval", options)
    config = EvalConfig.read(compose_options("eval", options))
    checkpoint = open_checkpoint(Path(config.ckpt).expanduser(), network=config.network, classes=config.classes)
    described = checkpoint.description
    classifier = restore(checkpoint, view_batch=described.test.view_batch).to(device).eval()
    record, spec = None, config.data
    if spec is None:  # the checkpoint's own data, in its own split
        record = described_split(described)
        spec = data_of(config, described.data, record)
    manifests = usable(find_videos(spec, splits=SPLITS, record=record))
    if manifests["train"].targets.kind != "one":
        raise ValueError(
            "vidgn probe needs one class per video, and data.label_separator or data.columns.label gives several; "
            "leave them out."
        )
    test = check_view_spec(described.test.num_clips, described.test.num_crops, described.test.clip_rule)
    splits: dict[Split, Features] = {}
    for split, manifest in manifests.items():
        data = data_module(spec.name)(
            {"test": manifest}, spec=spec, clip=ClipSpec(described.clip_len, described.span),
            crop=CropSpec(described.crop), test=test, batch=1,
        )  # fmt: skip
        key = hashlib.sha256(
            repr((sum_of(checkpoint.path), fingerprint(manifest), protocol(data))).encode()
        ).hexdigest()
        splits[split] = _cached(Path(folder) / f"{split}.npz", key, data, classifier, manifest)
    results = probe(splits, num_classes=len(manifests["train"].classes))
    if as_json:
        print(json.dumps({"features": folder, "probes": [result._asdict() for result in results]}), file=out)
    for result in [] if as_json else results:
        low, high = result.interval
        print(
            f"{result.classifier:20} {result.test:6.2f} % top-1 on {len(splits['test'].labels)} test videos "
            f"(95 % interval {low:.2f} to {high:.2f}; {result.val:.2f} % on validation)",
            file=out,
        )
    return 0


def probe(splits: Mapping[Split, Features], *, num_classes: int) -> list[Probe]:
    """Fit on the training videos, choose on the validation videos, test once.

    Raises:
        ValueError: no video of training or validation could be read.
    """
    for split in ("train", "val"):
        if not bool(_readable(splits[split].features).any()):
            raise ValueError(f"probe: no {split} video could be read; see the warnings above.")
    train, val = (_only_readable(splits[split]) for split in ("train", "val"))
    test = splits["test"]
    there = _readable(test.features)
    results = []
    for name, number, chosen in (
        ("k-NN", "k", nearest(train, val, test.features.nan_to_num(), num_classes=num_classes)),
        ("logistic regression", "C", logistic(train, val, test.features.nan_to_num(), num_classes=num_classes)),
    ):
        right = ((chosen.best == test.labels) & there).numpy()
        (interval,) = bootstrap([lambda rows, right=right: 100 * float(right[rows].mean())], len(right))  # type: ignore[misc]
        title = f"{name}, {number}={chosen.value:g}"
        results.append(Probe(title, chosen.value, chosen.val, 100 * float(right.mean()), interval))
    return results


def video_features(data: VideoDataModule, classifier: VideoClassifier, manifest: Manifest) -> Features:
    """Return the features of all videos in manifest order; NaN where one could not be read."""
    net: Any = classifier.net
    sums: dict[int, tuple[Tensor, int]] = {}
    device = next(net.parameters()).device
    with torch.no_grad():
        for batch in data.test_dataloader():
            for item in batch.items:
                if item.error is not None:
                    say(f"warning: {manifest.video_id(item.video)} cannot be read: {item.error}")
                    continue
                for view in item.views():
                    pixels = classifier.normalize(view[None].to(device))
                    feature = net.features(pixels).double().mean((0, 2, 3, 4)).cpu()  # (C,)
                    total, count = sums.get(item.video, (torch.zeros_like(feature), 0))
                    sums[item.video] = total + feature, count + 1
    size = next((len(total) for total, _ in sums.values()), 1)
    rows = [
        sums[video][0] / sums[video][1] if video in sums else torch.full((size,), torch.nan, dtype=torch.float64)
        for video in range(len(manifest))
    ]
    return Features(torch.stack(rows), torch.from_numpy(manifest.labels.astype(np.int64)))


def _cached(file: Path, key: str, data: VideoDataModule, classifier: VideoClassifier, manifest: Manifest) -> Features:
    """Return the features from a file that holds them, else compute and write them."""
    if file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            if "key" in stored and str(stored["key"]) == key:
                return Features(torch.from_numpy(stored["features"]), torch.from_numpy(stored["labels"]))
    extracted = video_features(data, classifier, manifest)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part, part.open("wb") as handle:
        np.savez(handle, key=np.array(key), features=extracted.features.numpy(), labels=extracted.labels.numpy())
    return extracted


def _readable(features: Tensor) -> Tensor:
    return ~features.isnan().any(1)


def _only_readable(split: Features) -> Features:
    there = _readable(split.features)
    return Features(split.features[there], split.labels[there])
