"""The options of task=detect as one frozen record."""

from dataclasses import dataclass
from typing import Self

from vidgn.detection.data.module import ImagesSpec, images_spec
from vidgn.detection.network import DetectorSpec
from vidgn.detection.network.spec import detector_spec
from vidgn.detection.optim import DetectorOptim, detector_optim
from vidgn.runs.command_line import Composed
from vidgn.runs.config import TrainingConfig, read_record


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(TrainingConfig):
    """The options of a run: `vidgn/detection/configs/train.yaml` says what each means."""

    epochs: int | None
    model: DetectorSpec
    optim: DetectorOptim
    data: ImagesSpec

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
