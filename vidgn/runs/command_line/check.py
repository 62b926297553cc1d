"""Find unknown, missing and unreadable options before anything runs; the message names the nearest."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from vidgn.runs.command_line.files import CONFIGS, group_choices, search_path, split_config_dir
from vidgn.terminal.overrides import check_type, option_name


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
