"""The options of a training run as one frozen record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from omegaconf import OmegaConf

from vidgn.data.augment import AugmentSpec
from vidgn.data.clips import ClipSpec
from vidgn.data.spec import DataSpec, ViewSpec
from vidgn.data.transforms import CropSpec
from vidgn.objective.distillation import DistillSpec
from vidgn.objective.losses import LossSpec
from vidgn.optim import OptimSpec
from vidgn.runs.command_line import CONFIGS, Composed, as_plain, with_followers
from vidgn.runs.config.evaluation import check_view_spec
from vidgn.runs.config.groups import LogSpec, ModelSpec, NormSpec
from vidgn.runs.config.job import TrainingConfig, VideoConfig
from vidgn.runs.config.records import read_record
from vidgn.terminal.overrides import option_name


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainingConfig, VideoConfig):
    """The options of a training run: `configs/train.yaml` says what each means.

    Attributes:
        data_options: names of those of this kind of data set.
    """

    optim: OptimSpec
    clip_len: int | None
    span: int | None
    crop: int | None
    epochs: int
    init_fresh: tuple[str, ...]
    choose: str
    chosen: Mapping[str, Any]
    distill: DistillSpec
    loss: str
    label_smoothing: float
    class_weights: str | tuple[float, ...] | None
    focal_gamma: float
    balanced: bool
    drop_path: float
    freeze: tuple[str, ...]
    train_only: str | None
    fit_head: bool
    ema: float | None
    swa: float | None
    early_stop: int | None
    val_clips: int | None
    best_by: str
    mixup: float
    cutmix: float
    videomix: float
    randaugment: float
    trivialaugment: bool
    color_jitter: float
    grayscale: float
    lighting: float
    erasing: float
    resized_crop: float
    speed_jitter: float
    reverse: float
    precise_bn: int | None
    log: LogSpec
    memory: Literal["normal", "low"]
    num_clips: int
    num_crops: int | str
    clip_rule: str
    view_batch: int
    model: ModelSpec
    norm: NormSpec
    data: DataSpec
    data_options: tuple[str, ...]

    @classmethod
    def read(cls, composed: Composed) -> Self:
        """Return the options of a composed configuration as a record.

        Raises:
            ValueError: an option is unknown, missing or out of its range.
        """
        values = composed.options
        job = composed.job() | {"recipe": values["chosen"].get("optim", composed.recipe)}
        return read_record(cls, {**values, **job, "data_options": tuple(values["data"])})

    def plain(self) -> dict[str, Any]:
        """Return the options as plain containers, named and ordered as in the files."""
        return super().plain() | {"data": {name: getattr(self.data, name) for name in self.data_options}}

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return this configuration with other options, by name; they are recorded in `chosen`.

        A group is replaced by the file of its value. Options that the user gave stay as given.
        """
        values, given = OmegaConf.create(self.plain()), OmegaConf.create(self.plain())
        for name, value in with_followers(options).items():
            if self.is_typed(name):
                continue
            if (CONFIGS / name).is_dir():
                shared = OmegaConf.select(OmegaConf.load(CONFIGS / "train.yaml"), name) or {}  # beside the group's file
                values[name] = OmegaConf.merge(shared, OmegaConf.load(CONFIGS / name / f"{value}.yaml"))
                for typed in map(option_name, self.overrides):
                    if typed.startswith(f"{name}."):
                        OmegaConf.update(values, typed, OmegaConf.select(given, typed))
            else:
                OmegaConf.update(values, name, value)
        values.chosen = dict(options)
        return self.read(Composed(as_plain(values), self.folder, self.overrides, self.recipe))

    @property
    def inputs(self) -> tuple[object, ...]:
        """Values that may name a file which the run reads."""
        data = self.data
        return (self.init, data.train, data.val, data.classes, data.passport, data.intersect, data.file)

    @property
    def clip(self) -> ClipSpec:
        """Frames and span of a clip, once `vidgn.runs.defaults.fill_clip` has set them."""
        assert self.clip_len is not None
        assert self.span is not None
        return ClipSpec(self.clip_len, self.span)

    @property
    def crop_spec(self) -> CropSpec:
        """Sizes in pixels, once `vidgn.runs.defaults.fill_clip` has set them."""
        assert self.crop is not None
        return CropSpec(self.crop)

    @property
    def view(self) -> ViewSpec:
        """Views of a video in the test."""
        return check_view_spec(self.num_clips, self.num_crops, self.clip_rule)

    @property
    def augment(self) -> AugmentSpec:
        """Augmentations of the training clips."""
        return AugmentSpec(**{name: getattr(self, name) for name in AugmentSpec.__dataclass_fields__})

    @property
    def loss_spec(self) -> LossSpec:
        """What is minimized."""
        return LossSpec(**{name: getattr(self, name) for name in LossSpec.__dataclass_fields__})
