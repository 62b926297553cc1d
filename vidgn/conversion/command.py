"""The command `vidgn convert-weights`: options as for train.py, the conversion, and a short distillation.

The distillation is a run of `vidgn train` beside the file, OUT.distill, from the converted net and with the batch-norm
net as its teacher: it is logged, and the same command with --overwrite resumes it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO, cast

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.conversion.weights import ConvertedWeights, convert_weights
from vidgn.files.whole_files import copy_whole
from vidgn.inference.model import find_checkpoint
from vidgn.models.registry import MODELS
from vidgn.runs.command_line import check_words
from vidgn.runs.config import RunConfig
from vidgn.runs.defaults import fill_clip
from vidgn.runs.session import compose_options

_PUBLISHED = ("network", "classes")
_CLIP = ("clip_len", "span", "crop")
_BATCH = 8  # clips of a step of the distillation


def run_convert(
    source: str,
    overrides: Sequence[str],
    *,
    out: str,
    norm: str,
    clips: int,
    scales: str,
    kernels: str,
    num_groups: int | None,
    distill: int | None,
    device: str,
    seed: int,
    output: TextIO,
    as_json: bool = False,
    overwrite: bool = False,
) -> int:
    """Convert, print the layers and the agreement, and distill if that is asked for.

    Args:
        source: a run folder, a checkpoint, a published file, or with `model=` image weights.
        overrides: data=..., data.root=... of the calibration videos; for a published video net also network= and
            classes=, as for eval.py; for image weights model=..., clip_len=, span=, crop= and init_fresh=.
        out: the file to write.
        norm: gn, ln or frozen_bn.
        clips: to calibrate with.
        scales: keep or fit.
        kernels: keep, scale or fit.
        num_groups: of gn.
        distill: steps of 8 clips, or of all training videos where they are fewer; None: none.
        device: auto, cpu, cuda or cuda:1.
        seed: of the clips.
        output: where to print.
        as_json: print one JSON object; what the distillation prints goes to stderr.
        overwrite: replace `out` where it exists.

    Raises:
        ValueError, OSError: what was given cannot be used; one sentence.
    """
    published, others = _take_published(overrides)
    config, typed = _compose(others)
    _check_distill(distill, typed)
    convert = partial(
        convert_weights,
        source,
        data=_data(config, typed),
        **published,
        device=device,
        seed=seed,
        overwrite=overwrite,
    )
    converted = convert(
        out=out,
        norm=cast('Literal["gn", "ln", "frozen_bn"]', norm),
        clips=clips,
        scales=cast('Literal["keep", "fit"]', scales),
        kernels=cast('Literal["keep", "scale", "fit"]', kernels),
        num_groups=num_groups,
        **_image_options(config, typed),
    )
    print(json.dumps(_plain(converted)) if as_json else converted, file=output, flush=True)
    if distill is None:
        return 0
    notes = sys.stderr if as_json else output
    teacher = find_checkpoint(source)
    if not _is_own(teacher):  # its classes and videos may be named by options: write them down
        teacher = converted.path.absolute().with_suffix(".teacher.ckpt")
        convert(out=teacher, norm="frozen_bn", clips=1)
    batch = min(_BATCH, converted.num_train)
    return run_distillation(converted.path, teacher=str(teacher), steps=distill, batch=batch, output=notes)


def _take_published(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options of a published net by name, and the other overrides."""
    pairs = [(override.partition("="), override) for override in overrides]
    published = {key: value for (key, _, value), _ in pairs if key in _PUBLISHED}
    return published, [override for (key, _, _), override in pairs if key not in _PUBLISHED]


def _check_distill(steps: int | None, typed: set[str]) -> None:
    if steps is not None and steps < 1:
        raise ValueError(f"--distill ({steps}) must be 1 step or more; leave it out for none.")
    if steps is not None and "model" in typed:
        raise ValueError(
            "--distill imitates what a classifier gives, and that of image weights (model=) is new; leave --distill out"
            " and train with vidgn train init=."
        )


def distill_command(converted: Path, *, teacher: str, steps: int, batch: int = _BATCH) -> list[str]:
    """Return the options of `vidgn train` for a distillation on the videos that the converted checkpoint names."""
    about = read_checkpoint(converted).description
    known = compose_options("train", [f"data={about.data_name}"]).options["data"]
    data = {key: value for key, value in about.data.items() if key in known and value != known[key]}
    return [
        f"data={about.data_name}",
        *(f"data.{key}={_quoted(value)}" for key, value in data.items()),
        f"init={_quoted(str(converted))}",
        f"distill={_quoted(teacher)}",
        f"clip_len={about.clip_len}",
        f"span={about.span}",
        f"crop={about.crop}",
        f"model={about.model['name']}",
        *(f"model.{key}={about.model[key]}" for key in ("width", "dropout") if key in about.model),
        f"batch={batch}",
        f"epochs={steps}",  # each has one step or more; max_steps ends the run
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={steps}",
        "trainer.check_val_every_n_epoch=null",
        "test=false",
        f"hydra.run.dir={_quoted(str(distill_folder(converted)))}",
    ]


def _is_own(path: Path) -> bool:
    """Tell a checkpoint of vidgn from a published file."""
    try:
        read_checkpoint(path)
    except ValueError:
        return False
    return True


def distill_folder(converted: Path) -> Path:
    """Return the run folder of the distillation."""
    return converted.absolute().with_suffix(".distill")


def run_distillation(converted: Path, *, teacher: str, steps: int, batch: int, output: TextIO) -> int:
    """Train the converted checkpoint to imitate its teacher, in a process of its own; return its exit status.

    What that process prints goes to stderr where `output` is stderr.
    """
    options = distill_command(converted, teacher=str(Path(teacher).absolute()), steps=steps, batch=batch)
    print(f"distilling: vidgn train {' '.join(options)}", file=output, flush=True)
    screen = sys.stderr if output is sys.stderr else None
    command = [sys.executable, "-m", "vidgn", "train", *options]
    status = subprocess.run(command, check=False, stdout=screen).returncode
    if status == 0:
        copy_whole(distill_folder(converted) / "checkpoints" / "last.ckpt", converted)
        print(f"distilled {steps} steps: {converted}", file=output, flush=True)
    return status


def _compose(overrides: Sequence[str]) -> tuple[RunConfig, set[str]]:
    """Return the composed configuration of train.py and the names that were typed.

    Raises:
        ValueError: an option that train.py does not have, or that has no part in a conversion.
    """
    typed = {override.partition("=")[0] for override in overrides}
    wrong = sorted(name for name in typed if name.partition(".")[0] not in ("data", "model", "init_fresh", *_CLIP))
    if wrong:
        raise ValueError(
            f"option {wrong[0]} has no part in a conversion; must be data=, data.NAME=, for a published net"
            " network= or classes=, and for image weights also"
            " model=, model.NAME=, clip_len=, span=, crop= or init_fresh=."
        )
    check_words("train", overrides)
    return RunConfig.read(compose_options("train", overrides)), typed


def _data(config: RunConfig, typed: set[str]) -> dict[str, Any]:
    """Return the fields of the data set that were typed, all of them where the data set itself was."""
    fields = {name: getattr(config.data, name) for name in config.data_options}
    if "data" in typed or "data.name" in typed:
        return fields
    return {name: value for name, value in fields.items() if f"data.{name}" in typed}


def _image_options(config: RunConfig, typed: set[str]) -> dict[str, Any]:
    """Return the arguments for image weights, empty without `model=`.

    Raises:
        ValueError: options of image weights without `model=`.
    """
    others = sorted(name for name in typed if name in (*_CLIP, "init_fresh") or name.startswith("model."))
    if "model" not in typed:
        if others:
            raise ValueError(
                f"{others[0]} is an option for image weights, which need a video net; set model=i3d_r50 (or one of"
                f" {', '.join(MODELS)}), or leave {others[0]} out."
            )
        return {}
    config = fill_clip(config)
    return {
        "model": {
            name: value for name, value in config.model.plain().items() if name != "weight_standardization"
        },  # plain kernels
        "sizes": (config.clip_len, config.span, config.crop),
        "init_fresh": config.init_fresh,
    }


def _quoted(value: object) -> str:
    """Write a value as Hydra reads it: text in quotes, with what is special inside marked."""
    if not isinstance(value, str):
        return json.dumps(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _plain(weights: ConvertedWeights) -> dict[str, Any]:
    return {**weights._asdict(), "path": str(weights.path), "fits": [fit._asdict() for fit in weights.fits]}
