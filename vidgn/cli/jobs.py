"""Subcommands that train and test: `vidgn train` and `vidgn eval`, the same as train.py and eval.py."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

Words = Annotated[list[str] | None, typer.Argument(metavar="[OPTION=VALUE]...", help="See --options for the list.")]


def train_command(words: Words = None) -> None:
    """Train a model, then score its best checkpoint: vidgn train data=folder data.root=DIR norm=gn."""

    def job(composed: Any) -> object:
        from vidgn.detection.dispatch import train_task as run  # torch is imported only after the options are checked

        return run(composed)

    _run("train", words or [], job)


def eval_command(words: Words = None) -> None:
    """Score a checkpoint on its test: vidgn eval ckpt=runs/NAME."""

    def job(composed: Any) -> object:
        from vidgn.detection.dispatch import evaluate_task

        return evaluate_task(composed)

    _run("eval", words or [], job)


def _run(name: str, arguments: Sequence[str], job: Callable[..., Any]) -> None:
    from vidgn.cli.option_table import print_options
    from vidgn.detection.dispatch import choose_options
    from vidgn.runs.command_line import CONFIGS, command

    flags = {"--help", "-h", "--options"}
    if flags & set(arguments):
        if "--options" not in arguments:
            print(_USAGE[name])
        overrides = [word for word in arguments if word not in flags]
        print_options(name, overrides, configs=choose_options(overrides) if name == "train" else CONFIGS)
        return
    sys.argv = [f"vidgn {name}", *arguments]
    command(name, choose_options=choose_options if name == "train" else None)(job)()


_USAGE = {
    "train": """\
vidgn train [OPTION=VALUE]...

Train a video classifier, then score its best checkpoint. The run folder holds config.yaml, metrics.csv,
checkpoints/, metrics.json and predictions.csv.

  vidgn train                                        the embedded data set: minutes on two CPU cores
  vidgn train data=folder data.root=DIR norm=gn      your own videos, one folder per class
  vidgn train clip_len=64 batch=4 norm=gn data=kinetics400 data.root=DIR
  vidgn train -m norm=bn,gn batch=8,2                every combination, each in a folder of its own
  vidgn train --options data=folder                  the options that apply to your own videos
  vidgn train task=detect data=coco data.root=DIR    boxes and masks in images (docs/detection.md)
  vidgn train --config-dir DIR preset=mine           with your own files in DIR/preset, DIR/model, ...

Example: vidgn train data=folder data.root=DIR norm=gn
""",
    "eval": """\
vidgn eval ckpt=RUN|CHECKPOINT [OPTION=VALUE]...

Score a checkpoint on the test videos of its data set: 10 clips per video, softmax averaged.

  vidgn eval ckpt=runs/NAME
  vidgn eval ckpt=runs/NAME data=folder data.root=DIR

Example: vidgn eval ckpt=runs/NAME
""",
}
