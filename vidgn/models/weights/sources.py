"""Open what weights can come from: torchvision's and timm's own downloads, and files of several kinds.

Nothing in a file is executed: torch's reader admits plain tensors and containers only, numpy's reads no
pickles, and Caffe2's pickles go through vidgn's own reader, which builds arrays only.
"""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidgn.checkpoints.description import KEY, Description
from vidgn.files.shipped import SHIPPED, shipped_checkpoint
from vidgn.models.weights.formats import FORMATS, Channels, Format, recognise
from vidgn.models.weights.pickles import read_pickle


class Source(NamedTuple):
    """Weights under the names of their format, and what they say of themselves."""

    tensors: Mapping[str, Any]  # arrays as tensors; what else the file holds, as it is
    format: Format
    name: str
    classes: tuple[str, ...] | None
    mean: Channels | None
    std: Channels | None
    weight_standardization: bool | str = False  # of the net that the weights are from


def open_source(source: str | Path, *, depth: int | None) -> Source:
    """Open `torchvision`, `timm`, `motions` (in the package) or a file, for a ResNet of `depth` layers.

    `depth` None is another net.

    A `.pkl` is read as Caffe2's pickle, a `.npz` as numpy's archive, all others as torch's.

    Raises:
        FileNotFoundError: `source` is none of these.
        ModuleNotFoundError: timm is not installed.
        ConnectionError: the weights cannot be downloaded.
        ValueError: the file holds no weights of a known format, or of one that no net here can use; or there
            are none of this depth.
    """
    source = shipped_checkpoint(str(source)) if str(source) in SHIPPED else source
    content = _download(str(source), depth) if str(source) in _DOWNLOADS else _read(source)
    own = _description(content, source)
    mean, std = (None, None) if own is None else (own.mean, own.std)
    tensors = _unwrap(content)
    form = recognise(tensors)
    if form is None:
        known = ", ".join(form.name for form in FORMATS if form.refusal is None)
        seen = ", ".join(map(str, list(tensors)[:3])) or "nothing"
        raise ValueError(
            f"{source} is not a weights file of a known format: it holds {seen}; give a state dict in the names"
            f" of {known}, flat or under {', '.join(map(repr, _CONTAINERS))}."
        )
    if form.refusal is not None:
        raise ValueError(f"{source} {form.refusal}")
    if own is not None and own.is_of_images:
        form = form._replace(pictures=True)
    return Source(
        tensors,
        form,
        str(source) if str(source) in _DOWNLOADS else form.name,
        None if own is None else own.classes,
        _channels(mean) or (form.pixels and form.pixels.mean),
        _channels(std) or (form.pixels and form.pixels.std),
        form.weight_standardization if own is None else own.model.get("weight_standardization", False),
    )


def _description(content: Mapping[str, Any], source: str | Path) -> Description | None:
    """Return the description of a vidgn checkpoint; None for other weights."""
    if not content.get(KEY):
        return None
    try:
        return Description.from_plain(content[KEY])
    except ValueError as err:
        raise ValueError(f"{source} {err}; take another checkpoint.") from err


def kinetics400() -> tuple[str, ...]:
    """Give the classes of Kinetics-400 in the order of every published classifier, the alphabetical."""
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])


_CONTAINERS = ("state_dict", "model_state", "blobs")
_PREFIXES = ("module.", "model.")  # DataParallel's, and PySlowFast's around pytorchvideo's nets


def _read(source: str | Path) -> Mapping[str, Any]:
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"Weights {source} are no file; give {', '.join(_DOWNLOADS)} or the path of a .pth, .pyth, .ckpt,"
            " .pkl or .npz file."
        )
    _refuse_bomb(path)
    if path.suffix == ".pkl":
        return {name: _tensor(value) for name, value in read_pickle(path).items()}
    if path.suffix == ".npz":
        return _read_npz(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # torch raises many kinds on damaged and on refused files
        reason = "it needs code to be read" if _is_torch_file(path) else "it is not a file of weights"
        raise ValueError(
            f"{source} cannot be read as plain tensors ({reason}); give a .pth, .pyth, .ckpt, .pkl or .npz file "
            "that holds tensors alone."
        ) from err
    return content if isinstance(content, Mapping) else {}


def _is_torch_file(path: Path) -> bool:
    """Tell a zip of torch, or a pickle, by the first bytes."""
    with path.open("rb") as file:
        start = file.read(4)
    return start.startswith((b"PK\x03\x04", b"\x80"))


def _read_npz(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name.removesuffix(":0"): _tensor(arrays[name]) for name in arrays.files}
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as err:
        raise ValueError(
            f"{path} cannot be read as an archive of numeric arrays ({err}); give a file that numpy.savez wrote."
        ) from err


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that would fill the memory: weights hardly shrink when they are packed.

    Raises:
        ValueError: It inflates to more than ten times its size; or it is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            inflated, size = sum(part.file_size for part in file.infolist()), path.stat().st_size
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as err:
        raise ValueError(f"{path} is damaged ({err}); get it again.") from err
    if inflated > 10 * size:
        raise ValueError(
            f"{path} ({size:,} bytes) inflates to {inflated:,} bytes, which no weights do and which may fill the"
            " memory; get it from its author again."
        )


def _tensor(value: object) -> object:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _unwrap(content: Mapping[str, Any]) -> Mapping[str, Any]:
    for container in _CONTAINERS:
        if isinstance(content.get(container), Mapping):
            content = content[container]
            break
    for prefix in _PREFIXES:
        if content and all(str(name).startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    return content


def _download(name: str, depth: int | None) -> Mapping[str, Any]:
    if depth is None:
        raise ValueError(
            f"init={name} has ResNets of 50 or 101 layers, which this net is not; give the path of its own"
            " weights, or use model=i3d_r50."
        )
    return _DOWNLOADS[name](depth)


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
            " model=i3d_r50, or init=torchvision with norm=bn."
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
