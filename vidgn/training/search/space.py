"""The space of a search, as overrides in Hydra's grammar.

norm=gn,bn                               one of these
clip_len=range(8,33,8)                   8, 16, 24, 32
optim.weight_decay=interval(0,0.1)       any number from 0 to 0.1
optim.lr=tag(log,interval(0.001,0.3))    the same, each power of ten alike
epochs=int(interval(5,20))               a whole number, 5 to 20
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_DIGITS = 4  # of a number that is tried


def split_space(words: Sequence[str]) -> tuple[list[str], "dict[str, BaseDistribution]"]:
    """Return the overrides that all trials have, and what the others are drawn from, by option.

    Raises:
        ValueError: an override cannot be read, or an option has no two values to choose from.
    """
    fixed: list[str] = []
    space: dict[str, BaseDistribution] = {}
    for word in words:
        override = _parse(word)
        if override is None or not override.is_sweep_override():
            fixed.append(word)
        else:
            space[word.partition("=")[0]] = _distribution(override, word)
    return fixed, space


def as_override(name: str, value: Any) -> str:
    """Return KEY=VALUE of what was drawn; numbers have four digits.

    >>> as_override("optim.lr", 0.0123456)
    'optim.lr=0.01235'
    >>> as_override("norm", "gn")
    'norm=gn'
    """
    return f"{name}={value:.{_DIGITS}g}" if isinstance(value, float) else f"{name}={value}"


def corner_trials(space: "Mapping[str, BaseDistribution]") -> list[list[str]]:
    """Return trials in which every category and both ends of every interval are used, to check before the first."""
    values = {name: _corners(distribution) for name, distribution in space.items()}
    first = {name: options[0] for name, options in values.items()}
    trials = [first, *({**first, name: value} for name, options in values.items() for value in options[1:])]
    return [[as_override(name, value) for name, value in trial.items()] for trial in trials]


def _parse(word: str) -> Override | None:
    if "=" not in word:
        return None
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as err:
        raise ValueError(f"{word!r} cannot be read ({err}); quote lists and special characters") from err


def _distribution(override: Override, word: str) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    if isinstance(value, RangeSweep):
        return _range(value, word)
    if not isinstance(value, IntervalSweep):
        texts = list(dict.fromkeys(override.sweep_string_iterator()))
        return CategoricalDistribution(_at_least_two(texts, word))
    low, high, log = value.start, value.end, "log" in value.tags
    if low is None or high is None or not low < high or (log and low <= 0):
        above = " and above 0" if log else ""
        raise ValueError(f"{word!r} has no interval to draw from; give two numbers, the smaller one first{above}.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(value: RangeSweep, word: str) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    start, stop, step = value.start or 0, value.stop, value.step
    count = 0 if stop is None or step <= 0 else math.ceil((stop - start) / step - 1e-9)
    if count < 2:
        raise ValueError(f"{word!r} has fewer than two values; give range(FIRST,END,STEP), without END.")
    last = start + (count - 1) * step
    if all(isinstance(number, int) for number in (start, last, step)):
        return IntDistribution(int(start), int(last), step=int(step))
    return FloatDistribution(float(start), float(last), step=float(step))


def _at_least_two(texts: list[str], word: str) -> list[str]:
    if len(texts) < 2:
        raise ValueError(f"{word!r} has fewer than two values; give them with commas, as in norm=gn,bn.")
    return texts


def _corners(distribution: "BaseDistribution") -> list[Any]:
    parts: Any = distribution
    return list(parts.choices) if hasattr(parts, "choices") else [parts.low, parts.high]
