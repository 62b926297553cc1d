"""Run a job of the command line inside this process: what `vidgn.train` and `vidgn.evaluate` do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from vidgn.runs.command_line import (
    CONFIGS,
    Composed,
    as_plain,
    check_complete,
    check_words,
    composed,
    default_words,
    full_names,
    hide_noise,
    search_path,
)
from vidgn.terminal.overrides import quote_paths

Outcome = TypeVar("Outcome")


def run_here(
    config_name: str, overrides: Sequence[str], run: Callable[[Composed], Outcome], *, options: Path = CONFIGS
) -> Outcome:
    """Compose a configuration from overrides as the command line does, and call `run` with it.

    Args:
        config_name: `train` or `eval`.
        overrides: KEY=VALUE, as typed on the command line.
        run: takes the composed options; what it returns is returned.
        options: folder with the main file and its groups, as for `command`.

    Raises:
        ValueError: an unknown option or choice, with the known ones.
        Exception: whatever `run` raises.
    """
    words = full_names(overrides)
    words += default_words(words) if config_name == "train" and options == CONFIGS else []
    words = quote_paths(words)
    check_complete(check_words(config_name, words, options))
    hide_noise()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(options), version_base="1.3"):
        config = compose(config_name, overrides=[*words, *search_path(options)], return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(Path(config.hydra.run.dir).absolute())
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    Path(config.hydra.runtime.output_dir).mkdir(parents=True, exist_ok=True)
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        return run(composed(job))
    finally:
        holder.cfg = before


def compose_options(config_name: str, overrides: Sequence[str]) -> Composed:
    """Compose a configuration without running anything: it has no run folder.

    Args:
        config_name: `train` or `eval`.
        overrides: KEY=VALUE, as typed on the command line.
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(config_name, overrides=list(overrides), return_hydra_config=True)
    recipe = str(config.hydra.runtime.choices.get("optim"))
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    config.trainer.default_root_dir = None  # refers to the run folder
    return Composed(as_plain(config), Path(), tuple(overrides), recipe)
