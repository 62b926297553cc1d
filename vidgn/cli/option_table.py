"""The options of `vidgn train` and `vidgn eval` as a table: name, default, choices and meaning.

The meaning is the comment beside the option in its file; where a group's file sets an option, its comment counts.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from vidgn.runs.command_line import CONFIGS, check_words, group_choices, included_files

_OPTION = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_]\w*):(?P<value>[^#]*?)\s*(?:#\s*(?P<comment>.*))?$")
_MORE = re.compile(r"^\s+#\s*(?P<comment>.*)$")  # the comment of the line before, continued


class Option(NamedTuple):
    """One option.

    Attributes:
        name: as it is typed before the `=`.
        default: as it is written in the file; empty for a required one.
        meaning: one sentence or two.
        choices: of a group, the names of its files; else empty.
    """

    name: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()


def read_options(
    config_name: str, overrides: Sequence[str] = (), *, configs: Path = CONFIGS
) -> dict[str, list[Option]]:
    """Return the options by group: `general` first, then one group per part (`data`, `model`, `norm`, ...).

    Args:
        config_name: `train` or `eval`.
        overrides: KEY=VALUE; the choice of a group decides whose options are listed, as in `data=folder`.
        configs: folder of the main file and its groups; groups that it lacks are those of `CONFIGS`.

    Raises:
        ValueError: an unknown option or choice.
    """
    check_words(config_name, overrides, configs)
    chosen = dict(word.split("=", 1) for word in overrides)
    main = configs / f"{config_name}.yaml"
    defaults = _defaults(main)
    general: dict[str, Option] = {}
    groups: dict[str, dict[str, Option]] = {}
    for group, default in defaults.items():
        choice = chosen.get(group, default)
        general[group] = Option(group, choice, "", tuple(_choices(configs, group)))
        for option in _of_group(configs, group, choice):
            part, dot, _ = option.name.partition(".")
            target = groups.setdefault(part, {}) if dot else general
            target[option.name] = option
    for option in (option for file in (main, *included_files(main)) for option in _lines(file)):
        name, dot, _ = option.name.partition(".")
        if name not in ("hydra", "defaults"):
            general.setdefault(option.name, option)
            known = general[option.name]
            general[option.name] = known._replace(meaning=known.meaning or option.meaning)
    for name, value in chosen.items():
        for options in (general, *groups.values()):
            if name in options:
                options[name] = options[name]._replace(default=value)
    ordered = sorted(general.values(), key=lambda option: not option.choices)
    return {"general": ordered} | {group: list(options.values()) for group, options in groups.items() if options}


def print_options(
    config_name: str, overrides: Sequence[str] = (), *, console: Console | None = None, configs: Path = CONFIGS
) -> None:
    """Print the table of options.

    Raises:
        ValueError: an unknown option or choice.
    """
    console = console or Console()
    for group, options in read_options(config_name, overrides, configs=configs).items():
        table = Table(title=group, title_justify="left", title_style="bold", expand=False, pad_edge=False)
        table.add_column("option", no_wrap=True)
        table.add_column("value", overflow="fold", max_width=24)
        table.add_column("meaning", overflow="fold")
        for option in options:
            choices = f"one of {', '.join(option.choices)}" if option.choices else ""
            meaning = "; ".join(part for part in (option.meaning, choices) if part)
            table.add_row(option.name, option.default, meaning)
        console.print(table)
        console.print()


def _choices(configs: Path, group: str) -> list[str]:
    if _folder(configs, group).parent == CONFIGS:
        return group_choices(group)
    return sorted(path.stem for path in (configs / group).glob("*.yaml"))


def _folder(configs: Path, group: str) -> Path:
    return configs / group if (configs / group).is_dir() else CONFIGS / group


def _defaults(path: Path) -> dict[str, str]:
    """Return the groups of a main file with their default choices."""
    groups = re.findall(r"^  - (\w+): ([\w]+)", path.read_text("utf-8"), flags=re.MULTILINE)
    return {group: "" if choice == "null" else choice for group, choice in groups}


def _of_group(configs: Path, group: str, choice: str) -> Iterator[Option]:
    """Yield the options of a group's file, with the group before their names where the file does not name it."""
    if not choice:
        return
    path = _folder(configs, group) / f"{choice}.yaml"
    text = path.read_text("utf-8")
    everywhere = "@package _global_" in text
    own = [option for option in _lines(path) if option.name.partition(".")[0] != "defaults"]
    own = own if everywhere else [option._replace(name=f"{group}.{option.name}") for option in own]
    included = re.findall(r"^  - (\w+)$", text, flags=re.MULTILINE)
    for part in included if "_self_" in included else [*included, "_self_"]:  # in Hydra's order
        yield from own if part == "_self_" else _of_group(configs, group, part)


def _lines(path: Path) -> Iterator[Option]:
    """Yield the options of one file: dotted names, values as they are written, comments."""
    parents: list[tuple[int, str]] = []
    last: Option | None = None
    for line in path.read_text("utf-8").splitlines():
        more = _MORE.match(line)
        if more and last is not None:
            last = last._replace(meaning=f"{last.meaning} {more['comment']}".strip())
            continue
        if last is not None:
            yield last
            last = None
        match = _OPTION.match(line)
        if match is None:
            continue
        indent, key, value = len(match["indent"]), match["key"], match["value"].strip()
        parents = [(depth, name) for depth, name in parents if depth < indent]
        name = ".".join([*(name for _, name in parents), key])
        if not value:  # the options below it are indented
            parents.append((indent, key))
            continue
        last = Option(name, "" if value == "???" else value.strip("'\""), (match["comment"] or "").strip())
    if last is not None:
        yield last
