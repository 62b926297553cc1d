"""The command line: compose the options, check them, and turn a user's mistake into one sentence."""

import difflib
import functools
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidgn.files.run_folder import claim_typed_folder
from vidgn.runs.sweeps import combinations
from vidgn.terminal.escape import escaped
from vidgn.terminal.overrides import check_type, option_name, quote_paths
from vidgn.terminal.streams import outlive_terminal, take_utf8_names

_PACKAGE = Path(__file__).parents[1]
# In a wheel the files lie inside the package, in a clone beside it.
CONFIGS = next((path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir()), _PACKAGE)
USAGE_ERROR = 2  # exit status of a mistake in the options or in the files that they name


class Composed(NamedTuple):
    """What a command line comes to.

    Attributes:
        options: as plain containers; `???` stands where a dry run lacks one that must be given.
        folder: of the run.
        overrides: as they were typed.
        recipe: file of the group `optim`.
    """

    options: dict[str, Any]
    folder: Path
    overrides: tuple[str, ...]
    recipe: str

    def job(self) -> dict[str, Any]:
        """Return what is no option."""
        return {"folder": self.folder, "overrides": self.overrides, "recipe": self.recipe}


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


def check_words(config_name: str, words: Sequence[str], options: Path = CONFIGS) -> DictConfig | None:
    """Compose the configuration of the folder `options` to find unknown options; return it, None where help is asked.

    Raises:
        ValueError: an option or a choice that does not exist, with the ones that do and the nearest.
    """
    folder, words = split_config_dir(words)
    search = search_path(options, folder)
    values = [word for word in words if not word.startswith("-")]
    ours = [word for word in values if not word.startswith(("hydra.", "hydra/")) and "=" in word]
    for word in values:
        if "=" not in word:
            raise ValueError(f"{word!r} is not of the form KEY=VALUE, such as clip_len=64 or norm=gn")
    if any(flag in words for flag in ("--help", "--hydra-help", "--info", "-h")):
        return None
    try:
        with initialize_config_dir(str(options), version_base="1.3"):
            known = compose(config_name, overrides=search_path(options))
            groups = [word for word in ours if _is_group(option_name(word))]
            for word in groups:
                _check_word(word, known)
            if groups or folder is not None:
                known = compose(config_name, overrides=[*search, *groups])
            for word in ours:
                _check_word(word, known)
            return compose(config_name, overrides=[*search, *ours])
    except MissingConfigException as err:
        choices = ", ".join(sorted(name for name in err.options or [] if not name.startswith("_")))
        raise ValueError(f"{_group(err)} is unknown; it must be one of {choices}") from err
    except HydraException as err:
        raise ValueError(str(err).strip()) from err


def check_run_folder(words: Sequence[str]) -> None:
    """Check that the run folder can be made, before the configuration library tries.

    Raises:
        ValueError: it cannot.
    """
    if any(word.startswith("-") and not word.startswith(("--config-dir", "-cd")) for word in words):
        return  # help, or a sweep with folders of its own
    given = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("hydra.run.dir=")]
    wanted = given[-1] if given else "runs"
    folder = Path(wanted.partition("${")[0] or ".").absolute()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    why = "is not a folder" if not above.is_dir() else "is not writable for this user"
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"the run folder {wanted} cannot be made: {above} {why}; set hydra.run.dir=DIR.")


def check_complete(config: DictConfig | None) -> None:
    """Require every value that must be given; a dry run makes its own videos.

    Args:
        config: what `check_words` returned; None passes.

    Raises:
        ValueError: one is not given.
    """
    if config is None:
        return
    is_dry = config.get("trainer", {}).get("dry") is not None
    missing = [key for key in _missing(OmegaConf.to_container(config)) if not (is_dry and key.startswith("data."))]
    if missing:
        raise ValueError(f"{missing[0]} must be given; set {missing[0]}=VALUE")


def search_path(options: Path, folder: Path | None = None) -> list[str]:
    """Return the word that lets Hydra find groups in the user's folder and, of another task, in `CONFIGS`."""
    places = [*([folder] if folder is not None else []), *([CONFIGS] if options != CONFIGS else [])]
    paths = ",".join(f"file://{place.resolve()}" for place in places)
    return [f"hydra.searchpath=[{paths}]"] if places else []


def split_config_dir(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take `--config-dir DIR`, a folder with configuration files of the user's own, out of a command line.

    Raises:
        ValueError: the folder is missing, or not named.

    >>> split_config_dir(["norm=gn"])
    (None, ['norm=gn'])
    """
    rest, folder = list(words), None
    for position, word in enumerate(words):
        if word in ("--config-dir", "-cd") or word.startswith("--config-dir="):
            given = word.partition("=")[2] or (words[position + 1] if position + 1 < len(words) else "")
            rest = [*words[:position], *words[position + (1 if "=" in word else 2) :]]
            folder = Path(given).expanduser()
            if not given or not folder.is_dir():
                raise ValueError(f"--config-dir {given} is not a folder; give one that holds folders such as preset/")
    return folder, rest


def top_options(config_name: str, options: Path = CONFIGS) -> set[str]:
    """Return the options without a dot: those of the main file, and the groups, in the folder `options`."""
    groups = {path.name for folder in (options, CONFIGS) for path in folder.iterdir() if path.is_dir()}
    main = options / f"{config_name}.yaml"
    return {str(key) for file in (main, *included_files(main)) for key in OmegaConf.load(file)} | groups


def included_files(main: Path) -> list[Path]:
    """Return the files that a main file includes, as `_speed`: options that several programs share.

    >>> [file.name for file in included_files(CONFIGS / "eval.yaml")]
    ['_speed.yaml']
    """
    return [
        main.with_name(f"{name}.yaml")
        for name in OmegaConf.select(OmegaConf.load(main), "defaults")
        if isinstance(name, str) and name.startswith("_") and name != "_self_"
    ]


def run_folder() -> Path:
    """Return the folder that everything of this run is written to."""
    return Path(HydraConfig.get().runtime.output_dir)


def composed(config: DictConfig) -> Composed:
    """Return the configuration of the running job as plain values."""
    job = HydraConfig.get()
    return Composed(as_plain(config), run_folder(), tuple(job.overrides.task), str(job.runtime.choices.get("optim")))


def as_plain(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain containers, with what its values refer to."""
    # Data sets of videos refer to the option `strict`, which task=detect lacks; it refuses them with a reason.
    data = OmegaConf.to_container(config.data, resolve="strict" in config)
    rest = OmegaConf.masked_copy(config, [str(key) for key in config if key != "data"])
    return {**cast("dict[str, Any]", OmegaConf.to_container(rest, resolve=True)), "data": data}


def parse_config(text: str) -> dict[str, Any]:
    """Return the options of a `config.yaml`, which may be anyone's: no tag makes an object, nothing is looked up.

    Raises:
        ValueError: it is not YAML.
    """
    try:
        loaded = OmegaConf.create(text) if text.strip() else OmegaConf.create()
        return cast("dict[str, Any]", OmegaConf.to_container(loaded)) if isinstance(loaded, DictConfig) else {}
    except (yaml.YAMLError, OmegaConfBaseException, AssertionError) as err:
        raise ValueError(str(err)) from err


def _check_word(word: str, known: DictConfig) -> None:
    """Raise where an override names a key that the configuration, composed with its group, does not have."""
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as err:
        raise ValueError(f"{word!r} cannot be read ({err}); quote lists and special characters") from err
    name = override.key_or_group
    if _is_group(name) and not override.is_sweep_override() and isinstance(override.value(), (list, dict)):
        raise ValueError(f"{word!r} is unknown; {name} takes one value, as in {name}={group_choices(name)[0]}")
    if override.is_add() or override.is_delete():
        return
    if _is_group(name) and str(override.value()).startswith("_"):
        raise ValueError(f"{word!r} is unknown; {name} must be one of {', '.join(group_choices(name))}")
    parent, _, leaf = name.rpartition(".")
    node = OmegaConf.select(known, parent) if parent else known
    if not isinstance(node, DictConfig) or (leaf not in _keys(node) and name != "preset"):
        raise ValueError(_unknown_word(name, known))
    if not _is_group(name) and not override.is_sweep_override():
        check_type(name, override.value(), OmegaConf.select(known, name, throw_on_missing=False))


def group_choices(group: str) -> list[str]:
    """Return what a group of options can be set to; files whose names begin with `_` are included by others.

    >>> group_choices("task")
    ['image', 'video']
    """
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_"))


def _unknown_word(name: str, known: DictConfig) -> str:
    parent, _, leaf = name.rpartition(".")
    node = OmegaConf.select(known, parent) if parent else known
    if node is not None and not isinstance(node, DictConfig):
        return f"unknown option {name!r}; {parent} is a value, set it with {parent}=VALUE"
    choices = _keys(node) if isinstance(node, DictConfig) else []
    near = _elsewhere(name, known) or difflib.get_close_matches(leaf, choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown option {name!r}; {hint}{f'{parent} has' if parent else 'use one of'} {', '.join(choices)}"


def _missing(node: Any, prefix: str = "") -> list[str]:
    """Return the options of a plain configuration that must be given and are not."""
    if not isinstance(node, dict):
        return [prefix] if node == "???" else []
    return [key for name, value in node.items() for key in _missing(value, f"{prefix}.{name}".lstrip("."))]


def _elsewhere(name: str, known: DictConfig) -> list[str]:
    """Return the options of other groups that have this name, such as optim.lr for lr."""
    if "." in name:
        return []
    groups = [group for group in _keys(known) if isinstance(OmegaConf.select(known, group), DictConfig)]
    return [f"{group}.{name}" for group in groups if name in _keys(OmegaConf.select(known, group))]


def _keys(node: DictConfig) -> list[str]:
    return sorted(str(key) for key in list(node.keys()))  # `in node` is False for a value that must be given


def _is_group(name: str) -> bool:
    return (CONFIGS / name).is_dir()


def _group(err: MissingConfigException) -> str:
    return repr(err.missing_cfg_file or "the choice").replace("/", "=", 1)


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
