"""What every run of the comparison shares. It was chosen before the comparison was run; README.md says how."""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from experiments.videos import VideoSpec
from vidgn.data.synthetic.motions import CLASSES as MOTIONS
from vidgn.optim import OptimSpec

_LATER = ("name", "betas", "layer_decay", "rates", "agc")  # fields of OptimSpec that the first results did not know
_TARGET = VideoSpec()
_SOURCE = replace(_TARGET, classes=MOTIONS, train=60, val=10, test=25)
_FINETUNE = OptimSpec(lr=0.03, lr_clips=32)
_FRESH = OptimSpec(lr=0.12, lr_clips=32, schedule="cosine", drops=(), warmup=0.1)
_ADAPT = replace(_FRESH, lr=0.05)


@dataclass(frozen=True)
class Setting:
    """Sizes, lengths and recipes.

    Attributes:
        videos: to learn and to be tested on.
        source: the videos the starting weights are trained on: the twelve plain motions, of another seed.
        source_seed: of the latter.
        width: channels of the stem; the published net has 64.
        devices: how many the batch is spread over, in emulation; the paper has 8.
        epochs: passes over the training videos, the same for every cell.
        optim: the recipe; the rate is at 32 clips per step (4 devices x 8) and follows the linear rule.
        ancestor_epochs: passes over the source videos from random weights, with batch norm.
        ancestor_optim: the recipe of that.
        family_epochs: passes from there with the norm that fine-tuning has.
        family_optim: the recipe of that.
        test_clips: per video, softmax averaged.
        precise_batches: of 32 clips, for the statistics of batch norm.
        dropout: before the classifier.
    """

    videos: VideoSpec = _TARGET
    source: VideoSpec = _SOURCE
    source_seed: int = 10_000
    width: int = 8
    devices: int = 4
    epochs: int = 12
    optim: OptimSpec = _FINETUNE
    ancestor_epochs: int = 16
    ancestor_optim: OptimSpec = _FRESH
    family_epochs: int = 12
    family_optim: OptimSpec = _ADAPT
    test_clips: int = 4
    precise_batches: int = 10
    dropout: float = 0.0


SETTING = Setting()


def digest(what: Setting | VideoSpec) -> str:
    """Return a mark of a setting, which every result carries, or of what decides the pixels."""
    return sha256(json.dumps(_first_fields(asdict(what)), sort_keys=True).encode()).hexdigest()[:12]


def _first_fields(plain: dict[str, Any]) -> dict[str, Any]:
    """Leave out options of a recipe that came later and have their default: they change no result."""
    later = {key: value for key, value in asdict(OptimSpec()).items() if key in _LATER}
    return {
        key: _first_fields(value) if isinstance(value, dict) else value
        for key, value in plain.items()
        if key not in later or value != later[key]
    }
