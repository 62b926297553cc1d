"""What a command line comes to, as plain values."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


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
        """Return what is not an option."""
        order = tuple(self.options)
        return {"folder": self.folder, "overrides": self.overrides, "recipe": self.recipe, "order": order}


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
