"""Video classification with normalization that does not need a large batch.

Axis letters, the same everywhere:

    B  videos per step and device      T  frames per clip       G  groups of channels
    K  clips per video                 H  W  pixels             Q  classes
    C  channels                        S  side of the crop

A batch of clips is (B*K, C, T, H, W). Importing this package imports nothing heavy: torch comes with the first name
that is used, so that a mistake on the command line is answered at once.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidgn.api import create_model, evaluate, list_models, list_norms, model_info, train
    from vidgn.classifier import VideoClassifier
    from vidgn.conversion.weights import convert_weights
    from vidgn.data.manifests.manifest import Manifest
    from vidgn.data.module import VideoDataModule
    from vidgn.data.video import open_video
    from vidgn.loaded_model import LoadedModel, load
    from vidgn.norms.convert import convert_norm
    from vidgn.norms.layers import GroupNorm3d, make_norm

try:
    __version__ = version("vidgn")
except PackageNotFoundError:  # a clone that is not installed
    __version__ = "0+unknown"

_LATER = {
    "GroupNorm3d": "vidgn.norms.layers",
    "LoadedModel": "vidgn.loaded_model",
    "Manifest": "vidgn.data.manifests.manifest",
    "VideoClassifier": "vidgn.classifier",
    "VideoDataModule": "vidgn.data.module",
    "convert_norm": "vidgn.norms.convert",
    "convert_weights": "vidgn.conversion.weights",
    "create_model": "vidgn.api",
    "evaluate": "vidgn.api",
    "list_models": "vidgn.api",
    "list_norms": "vidgn.api",
    "load": "vidgn.loaded_model",
    "make_norm": "vidgn.norms.layers",
    "model_info": "vidgn.api",
    "open_video": "vidgn.data.video",
    "train": "vidgn.api",
}

__all__ = [
    "GroupNorm3d",
    "LoadedModel",
    "Manifest",
    "VideoClassifier",
    "VideoDataModule",
    "convert_norm",
    "convert_weights",
    "create_model",
    "evaluate",
    "list_models",
    "list_norms",
    "load",
    "make_norm",
    "model_info",
    "open_video",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'vidgn' has no attribute {name!r}")
    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
