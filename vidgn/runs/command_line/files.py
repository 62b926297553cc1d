"""The files with the options: their folder, the groups in it, and what a file includes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_PACKAGE = Path(__file__).parents[2]
# In a wheel the files lie inside the package, in a clone beside it.
CONFIGS = next((path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir()), _PACKAGE)
FOLLOWERS = {"epochs": "trainer.max_epochs", "strict": "data.strict"}  # options whose value is ${NAME}, by this name


def with_followers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with those that have the same value where they are not given themselves.

    >>> with_followers({"epochs": 30, "crop": 224})
    {'epochs': 30, 'crop': 224, 'trainer.max_epochs': 30}
    """
    return {**options, **{FOLLOWERS[name]: value for name, value in options.items() if name in FOLLOWERS}}


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


def group_choices(group: str) -> list[str]:
    """Return what a group of options can be set to; files whose names begin with `_` are included by others.

    >>> group_choices("task")
    ['image', 'video']
    """
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_"))
