"""The options of a test as one frozen record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

from vidgn.data.clips import ClipRule
from vidgn.data.spec import DataSpec, ViewSpec
from vidgn.runs.command_line import Composed
from vidgn.runs.config.job import VideoConfig
from vidgn.runs.config.records import read_record


@dataclass(frozen=True, kw_only=True)
class EvalConfig(VideoConfig):
    """The options of a test: `configs/eval.yaml` says what each means; those that are None are the checkpoint's.

    Attributes:
        data: the data set; None: the checkpoint's.
        data_changes: options of the data set that are given.
    """

    ckpt: str
    network: str | None
    classes: str | None
    weights: str
    clip_len: int | None
    span: int | None
    crop: int | None
    num_clips: int | None
    num_crops: int | str | None
    clip_rule: str | None
    view_batch: int | None
    epochs: int
    quantize: Literal["int8"] | None
    data: DataSpec | None
    data_changes: Mapping[str, Any]

    @classmethod
    def read(cls, composed: Composed) -> Self:
        """Return the options of a composed configuration as a record.

        Raises:
            ValueError: an option is unknown, missing or out of its range.
        """
        of_training = ("model", "optim")  # that data=motions sets too
        options = {name: value for name, value in composed.options.items() if name not in of_training}
        data = options["data"]
        spec = None if data["name"] is None else data
        changes = {name: value for name, value in data.items() if value is not None}
        return read_record(cls, {**options, **composed.job(), "data": spec, "data_changes": changes})

    @property
    def inputs(self) -> tuple[object, ...]:
        """Values that may name a file which the test reads."""
        names = ("train", "val", "classes", "passport", "intersect", "file")
        return (self.classes, *(self.data_changes.get(name) for name in names))


def data_spec(data: Mapping[str, Any]) -> DataSpec:
    """Return the options `data.*` as a record; an unknown one is an error that lists the choices."""
    return read_record(DataSpec, data, group="data.")


def check_view_spec(num_clips: int, num_crops: object, clip_rule: str) -> ViewSpec:
    """Check the options of the test."""
    if num_clips < 1:
        raise ValueError(f"num_clips ({num_clips}) must be at least 1; the paper's is 10.")
    if num_crops not in (1, 3, "full"):
        raise ValueError(f"num_crops ({num_crops}) must be 3, 1 or full.")
    if clip_rule not in get_args(ClipRule):
        raise ValueError(f"clip_rule ({clip_rule}) must be one of {', '.join(get_args(ClipRule))}.")
    return ViewSpec(num_clips, num_crops, cast("ClipRule", clip_rule))
