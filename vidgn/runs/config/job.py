"""What the options of every job have in common, and those of every training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from vidgn.runs.config.groups import LoggerSpec, TaskSpec, TrainerSpec
from vidgn.runs.config.records import Options
from vidgn.runs.speed import SpeedSpec, check_speed
from vidgn.terminal.overrides import option_name


@dataclass(frozen=True, kw_only=True)
class JobConfig(Options):
    """What the options of every job come with, and the options that every job has.

    Attributes:
        folder: of the run.
        overrides: as they were typed.
        recipe: file of the group `optim`.
        order: names of the options, as in the files.
    """

    folder: Path
    overrides: tuple[str, ...]
    recipe: str
    order: tuple[str, ...]

    batch: int
    seed: int
    overwrite: bool
    trainer: TrainerSpec
    logger: LoggerSpec

    def is_typed(self, name: str) -> bool:
        """Tell whether the user set the option `name`, or a whole group `name`."""
        return any(option_name(text) == name for text in self.overrides)

    def plain(self) -> dict[str, Any]:
        """Return the options as plain containers, named and ordered as in the files."""
        values = super().plain()
        return {name: values[name] for name in self.order if name in values}

    def yaml(self) -> str:
        """Return the text of `config.yaml`."""
        return OmegaConf.to_yaml(OmegaConf.create(self.plain()))


@dataclass(frozen=True, kw_only=True)
class VideoConfig(JobConfig):
    """The options of every job that computes scores of videos: `configs/_speed.yaml`, and `strict`."""

    strict: bool
    fuse: bool | Literal["auto"]
    compile: bool
    cuda_graphs: bool
    keep_memory: bool | Literal["auto"]

    @property
    def speed(self) -> SpeedSpec:
        """How the net is computed."""
        given = {name: getattr(self, name) for name in SpeedSpec._fields if hasattr(self, name)}
        return check_speed(SpeedSpec(**given, half=self.trainer.is_half))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(JobConfig):
    """The options of every training, of videos or of a detector."""

    init: str | None
    resume: str | None
    resume_force: bool
    save_every_minutes: float | None
    save_every_steps: int | None
    rank_timeout_minutes: float
    keep_last: int
    skip_nonfinite: int
    test: bool
    task: TaskSpec
