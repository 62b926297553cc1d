"""The groups of options that several programs have, as records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidgn.runs.config.records import Options

MISSING = "???"  # an option that must be given and is not; only a dry run gets so far


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
