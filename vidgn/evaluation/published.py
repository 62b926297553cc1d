"""Open what `ckpt=` names: a vidgn checkpoint, or one that others published, described by its names and shapes.

python eval.py ckpt=I3D_8x8_R50.pyth data=kinetics400 data.root=DIR
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vidgn.checkpoints.checkpoint import Checkpoint, check_finite, read_checkpoint
from vidgn.checkpoints.description import KEY, Description, TestViews
from vidgn.data.spec import DataSpec
from vidgn.files.whole_files import check_whole
from vidgn.models.registry import MODELS, build_model
from vidgn.models.weights.identify import Published, identify
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm
from vidgn.terminal.console import say


def open_checkpoint(path: str | Path, *, network: str | None = None, classes: str | None = None) -> Checkpoint:
    """Read a vidgn checkpoint, or a published video net as if it described itself.

    Args:
        path: the file.
        network: for a published file whose names and shapes are those of two networks, which of them it is.
        classes: for a published file that does not name its classes, a file with one name per line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of no known format, of no network here, or its classes have no names.
    """
    path = Path(path)
    try:
        return read_checkpoint(path)
    except ValueError:
        if not _may_be_published(path):
            raise
        published = identify(path)
    return _described(path, published, network=network, classes=classes)


def respell(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Spell class names as `known` does, where they are the same but for `_`, spaces and capitals.

    >>> respell(["riding_a_bike", "Zumba", "chess"], ["riding a bike", "zumba"])
    ('riding a bike', 'zumba', 'chess')
    """
    folded = {_fold(name): name for name in known}
    return tuple(name if name in known else folded.get(_fold(name), name) for name in names)


def _may_be_published(path: Path) -> bool:
    """Tell whether a file that is not a vidgn checkpoint may be a published one: whole, and without vidgn's key."""
    if path.suffix in (".pkl", ".npz"):
        return True
    if zipfile.is_zipfile(path):
        check_whole(path)
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # torch raises many kinds on foreign files; read_checkpoint has already named the problem
        return False
    return isinstance(content, Mapping) and KEY not in content and bool(content)


def _described(path: Path, published: Published, *, network: str | None, classes: str | None) -> Checkpoint:
    name = _chosen(path, published, network)
    row = MODELS[name]
    pool1 = None if row.pool1 is None else row.pool1 if name != published.model else published.pool1
    blocks = published.nonlocal_blocks
    options: dict[str, Any] = {"name": name, "width": row.width, "dropout": row.dropout}
    options |= {} if pool1 is None else {"pool1": pool1}
    options |= {"nonlocal": blocks} if blocks else {}
    names = _class_names(path, published, classes)
    net = build_model(name, num_classes=len(names), norm=make_norm(published.norm), pool1=pool1, nonlocal_blocks=blocks)
    report = load_weights(net, path, classes=None)
    say(
        f"{path.name} ({published.source_format}): {name} with {published.norm}, {len(names)} classes,"
        f" {report.loaded} tensors"
    )
    for note in (*report.notes, *(published.notes if network is None else ())):
        say(f"note: {note}")
    clip = row.clip if name != published.model else published.clip
    # 10 x 3 is everybody's test; the last clip runs over the end in video-nonlocal-net's alone.
    rule = "nonlocal" if published.source_format == "video-nonlocal-net" else "linspace"
    description = Description(
        classes=tuple(names),
        model=options,
        norm={"name": published.norm},
        clip_len=clip.clip_len,
        span=clip.span,
        crop=clip.crop,
        mean=tuple(published.mean),
        std=tuple(published.std),
        test=TestViews(num_clips=10, num_crops=3, clip_rule=rule),
        data=dict(vars(DataSpec("kinetics400"))),
    )
    return Checkpoint(path, check_finite(net.state_dict(), path), description, step=0, epoch=0)


def _chosen(path: Path, published: Published, network: str | None) -> str:
    if network is None or network == published.model:
        return published.model
    if (published.model, network) != ("i3d_r50", "i3d_r50_8x8"):
        raise ValueError(f"network={network}, but {path.name} has the tensors of {published.model}; leave network out.")
    return network


def _class_names(path: Path, published: Published, file: str | None) -> Sequence[str]:
    if file is not None:
        names = [line.strip() for line in Path(file).expanduser().read_text("utf-8").splitlines() if line.strip()]
        if len(names) != published.num_classes:
            raise ValueError(
                f"classes={file} has {len(names)} names and {path.name} {published.num_classes} classes; give one name"
                " per line, in the order of its classifier."
            )
        return names
    if published.classes is None:
        raise ValueError(
            f"{path.name} does not name its {published.num_classes} classes; give a file with one name per line, in the"
            " order of its classifier, as classes=FILE, or train on from it with train.py init=."
        )
    return published.classes


def _fold(name: str) -> str:
    return name.replace("_", " ").casefold()
