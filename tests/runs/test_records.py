from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from vidgn.runs.config.records import read_record


@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    rate: float = 1.0
    steps: int | None = None
    is_fast: bool = False
    mode: Literal["a", "b"] = "a"
    weights: str | tuple[float, ...] | None = None
    rates: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner = Inner()


def test_lists_become_tuples_and_one_text_is_a_list_of_one():
    values = {"rate": 2, "weights": [1, 2], "rates": {"head": 3}, "inner": {"names": "wandb"}}
    assert read_record(Outer, values) == Outer(2, weights=(1, 2), rates={"head": 3}, inner=Inner(("wandb",)))
    assert read_record(Outer, {"weights": "balanced", "inner": {"names": ["a"]}}).inner == Inner(("a",))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("rate", "fast", "a number"), ("rate", True, "a number"), ("steps", 1.5, "a whole number or null"),
     ("is_fast", 1, "true or false"), ("weights", 3, r"text or a list such as \[A,B\] or null"),
     ("rates", 3, "a group of options"), ("inner.names", 3, r"a list such as \[A,B\]"),
     ("inner", 3, "a group of options")],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_name(name, value, wanted):
    group, _, leaf = name.rpartition(".")
    values = {group: {leaf: value}} if group else {leaf: value}
    with pytest.raises(ValueError, match=rf"^{name} \({value}\) must be {wanted}\.$"):
        read_record(Outer, values)
