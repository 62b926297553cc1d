"""Open what weights can come from: torchvision's and timm's own downloads, and torch files.

Nothing in a file is executed: torch's reader admits plain tensors and containers only.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidgn.models.formats import FORMATS, Channels, Format, recognise


class Source(NamedTuple):
    """Weights under the names of their format, and what they say of themselves."""

    tensors: Mapping[str, Tensor]
    format: Format
    name: str
    classes: tuple[str, ...] | None
    mean: Channels | None
    std: Channels | None


def open_source(source: str | Path, *, depth: int) -> Source:
    """Open `torchvision`, `timm` or the path of a torch file, for a ResNet of `depth` layers.

    Raises:
        FileNotFoundError: `source` is none of these.
        ModuleNotFoundError: timm is not installed.
        ConnectionError: the weights cannot be downloaded.
        ValueError: the file holds no weights of a known format, or there are none of this depth.
    """
    content = _DOWNLOADS[str(source)](depth) if str(source) in _DOWNLOADS else _read(source)
    meta: Mapping[str, Any] = content.get("vidgn") or {}
    tensors = _unwrap(content)
    wrong = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    form = recognise(tensors)
    if form is None or wrong:
        known = ", ".join(form.name for form in FORMATS)
        seen = ", ".join(map(str, (wrong or list(tensors))[:3])) or "nothing"
        raise ValueError(
            f"{source} is no weights file of a known format: it holds {seen}; give a state dict in the names"
            f" of {known}, flat or under 'state_dict' or 'model_state'."
        )
    normalize = meta.get("normalize") or {}
    return Source(
        tensors,
        form,
        str(source) if str(source) in _DOWNLOADS else form.name,
        tuple(meta["classes"]) if meta.get("classes") else None,
        _channels(normalize.get("mean")) or form.mean,
        _channels(normalize.get("std")) or form.std,
    )


def _read(source: str | Path) -> Mapping[str, Any]:
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"Weights {source} are no file; give {', '.join(_DOWNLOADS)} or the path of a torch file."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as err:
        reason = str(err).strip().partition("\n")[0]
        raise ValueError(
            f"{source} cannot be read as plain tensors ({reason}); give a file that"
            " torch.load(weights_only=True) opens."
        ) from err
    return content if isinstance(content, Mapping) else {}


def _unwrap(content: Mapping[str, Any]) -> Mapping[str, Any]:
    for container in ("state_dict", "model_state"):
        if isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if content and all(str(name).startswith("module.") for name in content):  # DataParallel's prefix
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return content


def _download_torchvision(depth: int) -> Mapping[str, Tensor]:
    from torchvision.models import get_model_weights

    # V1 is the plain 90-epoch recipe, the nearest to the papers'; V2 is not.
    weights = get_model_weights(f"resnet{depth}")["IMAGENET1K_V1"]
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except OSError as err:
        raise _unreachable("torchvision", err) from err
    return state


def _download_timm(depth: int) -> Mapping[str, Tensor]:
    if depth != 50:
        raise ValueError(
            f"init=timm has group-norm weights for depth 50 only, and the net has depth {depth}; use"
            " model.depth=50, or init=torchvision with norm=bn."
        )
    try:
        import timm
    except ModuleNotFoundError as err:
        raise ModuleNotFoundError(
            "init=timm needs the package timm; run pip install timm, or give the path of the file."
        ) from err
    try:
        state: Mapping[str, Tensor] = timm.create_model("resnet50_gn", pretrained=True).state_dict()
    except (OSError, RuntimeError) as err:
        raise _unreachable("timm", err) from err
    return state


_DOWNLOADS: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    "torchvision": _download_torchvision,
    "timm": _download_timm,
}


def _unreachable(source: str, err: Exception) -> ConnectionError:
    return ConnectionError(
        f"init={source} could not download its weights ({err}); check the network, or fetch the file"
        " elsewhere and give its path."
    )


def _channels(values: Sequence[float] | None) -> Channels | None:
    if values is None:
        return None
    red, green, blue = (float(value) for value in values)
    return red, green, blue
