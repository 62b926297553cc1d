"""The options of a run as one frozen record, read from the composed configuration; nothing below knows Hydra."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast, get_args, get_type_hints

from omegaconf import OmegaConf

from vidgn.data.augment import AugmentSpec
from vidgn.data.clips import ClipRule, ClipSpec
from vidgn.data.spec import DataSpec, ViewSpec
from vidgn.data.transforms import CropSpec
from vidgn.objective.distillation import DistillSpec
from vidgn.objective.losses import LossSpec
from vidgn.optim import OptimSpec
from vidgn.runs.command_line import CONFIGS, Composed, as_plain
from vidgn.runs.speed import SpeedSpec, check_speed
from vidgn.terminal.overrides import option_name

MISSING = "???"  # an option that must be given and is not; only a dry run gets so far
Record = TypeVar("Record")


class Options:
    """A group of options; those that a record does not name, where it takes them, are in `more`."""

    def plain(self) -> dict[str, Any]:
        """Return the options as plain containers, named and ordered as in the files."""
        values: dict[str, Any] = {}
        for item in fields(cast("Any", self)):
            value = plain_value(getattr(self, item.name))
            values |= value if item.name == "more" else {item.name: value}
        return values


@dataclass(frozen=True)
class ModelSpec(Options):
    """The options `model.*`; `more` are those of this model alone."""

    name: str
    width: int
    dropout: float
    more: Mapping[str, Any]
    weight_standardization: bool | str = False


@dataclass(frozen=True)
class NormSpec(Options):
    """The options `norm.*`; `more` are those of this norm alone."""

    name: str
    more: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DrySpec:
    """The options `trainer.dry.*`; see `configs/trainer/dry.yaml`."""

    steps: int
    videos: int
    gpu: str
    gpus: int
    cores: int
    utilization: float
    dollars: float | None
    train_videos: int
    test_videos: int


@dataclass(frozen=True, kw_only=True)
class TrainerSpec(Options):
    """The options `trainer.*`, named as Lightning's arguments; `more` are those that the user added with `+`."""

    accelerator: str
    strategy: str
    devices: int | str | tuple[int, ...]
    num_nodes: int
    precision: str | int | None
    fast_dev_run: bool | int
    max_epochs: int | None
    min_epochs: int | None
    max_steps: int
    min_steps: int | None
    max_time: str | None
    limit_train_batches: float | None
    limit_val_batches: float | None
    limit_test_batches: float | None
    limit_predict_batches: float | None
    overfit_batches: float
    val_check_interval: float | None
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int
    log_every_n_steps: int
    enable_checkpointing: bool
    enable_progress_bar: bool
    enable_model_summary: bool
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: str | None
    deterministic: bool | str | None
    benchmark: bool | None
    inference_mode: bool
    use_distributed_sampler: bool
    detect_anomaly: bool
    sync_batchnorm: bool
    reload_dataloaders_every_n_epochs: int
    default_root_dir: str | None
    enable_autolog_hparams: bool
    dry: DrySpec | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_half(self) -> bool:
        """Whether the net computes in bfloat16, if that was asked for."""
        return str(self.precision).startswith("bf16")

    def plain(self) -> dict[str, Any]:
        """Return the options as they are in a file; without `dry` the arguments of Lightning's Trainer."""
        values = super().plain()
        return values if self.dry is not None else {name: value for name, value in values.items() if name != "dry"}


@dataclass(frozen=True)
class LoggerSpec:
    """The options `logger.*`."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class LogSpec:
    """The options `log.*`."""

    percentiles: str | None


@dataclass(frozen=True)
class TaskSpec:
    """The options `task.*`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class JobConfig(Options):
    """What the options of every job come with.

    Attributes:
        folder: of the run.
        overrides: as they were typed.
        recipe: file of the group `optim`.
    """

    folder: Path
    overrides: tuple[str, ...]
    recipe: str

    def is_typed(self, name: str) -> bool:
        """Tell whether the user set the option `name`, or a whole group `name`."""
        return any(option_name(text) == name for text in self.overrides)

    def plain(self) -> dict[str, Any]:
        """Return the options as plain containers, named and ordered as in the files."""
        return {name: value for name, value in super().plain().items() if name not in JobConfig.__dataclass_fields__}

    def yaml(self) -> str:
        """Return the text of `config.yaml`."""
        return OmegaConf.to_yaml(OmegaConf.create(self.plain()))


@dataclass(frozen=True, kw_only=True)
class RunConfig(JobConfig):
    """The options of a training run: `configs/train.yaml` says what each means, here they are in its order.

    Attributes:
        data_options: names of those of this kind of data set.
    """

    optim: OptimSpec
    clip_len: int | None
    span: int | None
    crop: int | None
    epochs: int
    batch: int
    seed: int
    init: str | None
    init_fresh: tuple[str, ...]
    choose: str
    chosen: Mapping[str, Any]
    resume: str | None
    resume_force: bool
    overwrite: bool
    save_every_minutes: float | None
    save_every_steps: int | None
    rank_timeout_minutes: float
    keep_last: int
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
    strict: bool
    skip_nonfinite: int
    memory: Literal["normal", "low"]
    num_clips: int
    num_crops: int | str
    clip_rule: str
    view_batch: int
    test: bool
    fuse: bool | Literal["auto"]
    compile: bool
    cuda_graphs: bool
    keep_memory: bool | Literal["auto"]
    model: ModelSpec
    norm: NormSpec
    trainer: TrainerSpec
    logger: LoggerSpec
    task: TaskSpec
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
        values = super().plain()
        del values["data_options"]
        return values | {"data": {name: getattr(self.data, name) for name in self.data_options}}

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return this configuration with other options, by name; they are recorded in `chosen`.

        A group is replaced by the file of its value, in which options that the user gave stay as given.
        """
        values, given = OmegaConf.create(self.plain()), OmegaConf.create(self.plain())
        for name, value in options.items():
            if (CONFIGS / name).is_dir():
                shared = OmegaConf.select(OmegaConf.load(CONFIGS / "train.yaml"), name) or {}  # beside the group's file
                values[name] = OmegaConf.merge(shared, OmegaConf.load(CONFIGS / name / f"{value}.yaml"))
                for typed in map(option_name, self.overrides):
                    if typed.startswith(f"{name}."):
                        OmegaConf.update(values, typed, OmegaConf.select(given, typed))
            else:
                OmegaConf.update(values, name, value)
        if "epochs" in options and not self.is_typed("trainer.max_epochs"):
            values.trainer.max_epochs = options["epochs"]  # ${epochs} in trainer/default.yaml
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

    @property
    def speed(self) -> SpeedSpec:
        """How the net is computed."""
        return _speed_of(self)


@dataclass(frozen=True, kw_only=True)
class EvalConfig(JobConfig):
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
    batch: int
    overwrite: bool
    strict: bool
    epochs: int
    seed: int
    quantize: Literal["int8"] | None
    fuse: bool | Literal["auto"]
    compile: bool
    cuda_graphs: bool
    keep_memory: bool | Literal["auto"]
    trainer: TrainerSpec
    logger: LoggerSpec
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

    @property
    def speed(self) -> SpeedSpec:
        """How the net is computed."""
        return _speed_of(self)


def _speed_of(config: RunConfig | EvalConfig) -> SpeedSpec:
    given = {name: getattr(config, name) for name in SpeedSpec._fields if hasattr(config, name)}
    return check_speed(SpeedSpec(**given, half=config.trainer.is_half))


def read_record(kind: type[Record], values: Mapping[str, Any], *, group: str = "") -> Record:
    """Return plain values as a record, groups of them as records of it; lists become tuples.

    Raises:
        ValueError: an option is unknown, missing or out of its range.
    """
    types = get_type_hints(kind)
    known = {name: value for name, value in values.items() if name in types}
    rest = {name: value for name, value in values.items() if name not in types}
    if "more" in types:
        known["more"] = rest
    elif rest:
        raise ValueError(f"unknown option {group}{next(iter(rest))}; use one of {', '.join(types)}.")
    read = {name: _read_value(types[name], value, group=f"{group}{name}.") for name, value in known.items()}
    try:
        return kind(**read)
    except TypeError as err:
        raise ValueError(f"options are missing ({err}); leave none out with ~") from err


def _read_value(kind: Any, value: Any, *, group: str) -> Any:
    record = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
    if record is not None and isinstance(value, Mapping):
        return read_record(cast("type[Any]", record), value, group=group)
    return tuple(value) if isinstance(value, list) else value


def plain_value(value: Any) -> Any:
    """Return a value of a record as it is in a file."""
    if isinstance(value, Options):
        return value.plain()
    if is_dataclass(value):
        return {item.name: plain_value(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain_value(item) for name, item in value.items()}
    return [plain_value(item) for item in value] if isinstance(value, list | tuple) else value


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
