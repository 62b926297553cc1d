"""From plain values of the configuration to checked records."""

from collections.abc import Mapping
from typing import Any, cast, get_args

from vidgn.data.clips import ClipRule
from vidgn.data.spec import DataSpec, ViewSpec
from vidgn.optim import OptimSpec


def data_spec(data: Mapping[str, Any]) -> DataSpec:
    """Return the options `data.*` as a record; an unknown one is an error that lists the choices."""
    _check_known(DataSpec, data, group="data")
    return DataSpec(**data)


def optim_spec(optim: Mapping[str, Any]) -> OptimSpec:
    """Return the options `optim.*` as a record."""
    _check_known(OptimSpec, optim, group="optim")
    lists = {name: tuple(optim[name]) for name in ("drops", "betas") if name in optim}
    return OptimSpec(**{**optim, **lists})


def check_view_spec(num_clips: int, num_crops: object, clip_rule: str) -> ViewSpec:
    """Check the options of the test."""
    if num_clips < 1:
        raise ValueError(f"num_clips ({num_clips}) must be at least 1; the paper's is 10.")
    if num_crops not in (1, 3, "full"):
        raise ValueError(f"num_crops ({num_crops}) must be 3, 1 or full.")
    if clip_rule not in get_args(ClipRule):
        raise ValueError(f"clip_rule ({clip_rule}) must be one of {', '.join(get_args(ClipRule))}.")
    return ViewSpec(num_clips, num_crops, cast("ClipRule", clip_rule))


def _check_known(kind: type[DataSpec] | type[OptimSpec], words: Mapping[str, Any], *, group: str) -> None:
    known = kind.__dataclass_fields__
    unknown = [name for name in words if name not in known]
    if unknown:
        raise ValueError(f"unknown option {group}.{unknown[0]}; use one of {', '.join(known)}.")
