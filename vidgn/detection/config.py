"""The options of task=detect as one frozen record."""

from dataclasses import dataclass
from typing import Self

from vidgn.detection.data.module import ImagesSpec, images_spec
from vidgn.detection.network import DetectorSpec
from vidgn.detection.network.spec import detector_spec
from vidgn.detection.optim import DetectorOptim, detector_optim
from vidgn.runs.command_line import Composed
from vidgn.runs.config import JobConfig, LoggerSpec, TaskSpec, TrainerSpec, read_record


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(JobConfig):
    """The options of a run: `vidgn/detection/configs/train.yaml` says what each means, here they are in its order."""

    batch: int
    seed: int
    epochs: int | None
    init: str | None
    resume: str | None
    resume_force: bool
    overwrite: bool
    save_every_minutes: float | None
    save_every_steps: int | None
    rank_timeout_minutes: float
    keep_last: int
    skip_nonfinite: int
    test: bool
    model: DetectorSpec
    optim: DetectorOptim
    trainer: TrainerSpec
    logger: LoggerSpec
    data: ImagesSpec
    task: TaskSpec

    @classmethod
    def read(cls, composed: Composed) -> Self:
        """Return the options of a composed configuration as a record.

        Raises:
            ValueError: an option is unknown, missing or out of its range.
        """
        values = composed.options
        parts = {
            "data": images_spec(values["data"]),
            "model": detector_spec(values["model"]),
            "optim": detector_optim(values["optim"]),
        }
        return read_record(cls, {**values, **parts, **composed.job()})
