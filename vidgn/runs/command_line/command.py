"""A program of the command line: compose the options, check them, and turn a user's mistake into one sentence."""

import functools
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from vidgn.files.run_folder import claim_typed_folder
from vidgn.runs.command_line.check import check_complete, check_run_folder, check_words
from vidgn.runs.command_line.composed import Composed, composed, run_folder
from vidgn.runs.command_line.files import CONFIGS, search_path
from vidgn.runs.sweeps import combinations
from vidgn.terminal.escape import escaped
from vidgn.terminal.overrides import option_name, quote_paths
from vidgn.terminal.streams import outlive_terminal, take_utf8_names

USAGE_ERROR = 2  # exit status of a mistake in the options or in the files that they name


def command(
    config_name: str, *, choose_options: Callable[[Sequence[str]], Path] | None = None
) -> Callable[[Callable[[Composed], object]], Callable[[], None]]:
    """Make a Hydra command of a function that takes the composed options.

    Unknown words and choices end with the list of what there is. Errors that are a user's to mend (values,
    files, videos) are printed as one sentence, with the traceback in `error.log` of the run folder.

    Args:
        config_name: of the main file.
        choose_options: gives the folder with the main file and its groups for a command line; None: `CONFIGS`. Groups
            that another folder lacks are those of `CONFIGS`.
    """

    def decorate(run: Callable[[Composed], object]) -> Callable[[], None]:
        @functools.wraps(run)
        def guarded(config: DictConfig) -> object:
            try:
                return run(composed(config))
            except _users_errors() as err:
                if os.environ.get("HYDRA_FULL_ERROR") == "1":
                    raise
                print(f"error: {err}\n({_keep_traceback()})", file=escaped(sys.stderr))
            sys.exit(USAGE_ERROR)

        def main() -> None:
            take_utf8_names()
            words = full_names(sys.argv[1:])
            options = CONFIGS if choose_options is None else choose_options(words)
            words += default_words(words) if config_name == "train" and options == CONFIGS else []
            typed, words = words, quote_paths(words)
            try:
                for job in combinations(words):
                    check_complete(check_words(config_name, job, options))
                check_run_folder(words)
                claim_typed_folder(typed)
            except (ValueError, OSError) as err:
                print(f"error: {err}", file=escaped(sys.stderr))
                sys.exit(USAGE_ERROR)
            searched = any(word.startswith("hydra.searchpath=") for word in words)  # of a rank that Lightning started
            sys.argv[1:] = words if searched else [*words, *search_path(options)]
            hide_noise()
            outlive_terminal()
            hydra.main(version_base="1.3", config_path=str(options), config_name=config_name)(guarded)()

        return main

    return decorate


def _keep_traceback() -> str:
    """Write the traceback into the run folder, each rank into a file of its own, and return where it is."""
    rank = next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
    log = run_folder() / ("error.log" if rank == "0" else f"error.rank{rank}.log")
    try:
        log.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as err:  # the disk that is full may be the fault
        return f"no traceback: {err}"
    return f"traceback: {log}"


def hide_noise() -> None:
    """Keep from the screen what a user can do nothing about."""
    from vidgn.lightning_internals import filter_rank_zero_log  # a typo must be answered without Lightning's seconds

    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    filter_rank_zero_log(_is_of_the_run)


def _is_of_the_run(record: logging.LogRecord) -> bool:
    """Leave out what Lightning says of devices, loaders and the last epoch: the lines of the run say it once."""
    return record.levelno >= logging.WARNING or f"{os.sep}lightning{os.sep}" not in record.pathname


_NOISE = (
    r"`?isinstance\(treespec, LeafSpec\)",  # Lightning 2.6.6 asks torch 2.15 in the old way
    r"Experiment logs directory .* exists",  # the run folder holds more than the logs
    r"The number of training batches",  # small data sets have fewer than log_every_n_steps
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # what we log is that of all ranks already
    r".*torch\.jit\.script",  # fvcore, which pytorchvideo imports
)


def full_names(words: Sequence[str]) -> list[str]:
    """Write out what is shorter on the command line than in a configuration.

    `resume` is a value and no group, so that `resume.force` cannot be an option; `distill` is a group, and a value.

    >>> full_names(["resume.force=true", "distill=bn.ckpt", "distill.steps=120"])
    ['resume_force=true', 'distill.ckpt=bn.ckpt', 'distill.steps=120']
    """
    words = [re.sub(r"^resume\.force=", "resume_force=", word) for word in words]
    return [re.sub(r"^distill=", "distill.ckpt=", word) for word in words]


def default_words(words: Sequence[str]) -> list[str]:
    """Return the overrides that follow from others: weights to start from choose the fine-tuning recipe.

    >>> default_words(["init=motions.ckpt", "data=folder"])
    ['optim=finetune']
    >>> default_words(["init=motions.ckpt", "optim=paper"])
    []
    """
    typed = {option_name(word) for word in words}
    starts = any(word.startswith("init=") and word not in ("init=null", "init=") for word in words)
    return ["optim=finetune"] if starts and not typed & {"optim", "preset"} and "task=image" not in words else []


def _users_errors() -> tuple[type[Exception], ...]:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from vidgn.callbacks.nonfinite import NonFiniteError
    from vidgn.data.faults.isolated_read import ReaderKilled
    from vidgn.data.faults.quarantine import TooManyBadVideos
    from vidgn.data.loading.workers import WorkerDied
    from vidgn.data.readers.types import VideoDecodeError

    data = (VideoDecodeError, TooManyBadVideos, ReaderKilled, WorkerDied)
    others = (MisconfigurationException, NonFiniteError, FloatingPointError)
    return (ValueError, TypeError, OSError, ImportError, *others, *data)
