"""The options of a run as one frozen record, read from the composed configuration; nothing below knows Hydra."""

from vidgn.runs.config.evaluation import EvalConfig, check_view_spec, data_spec
from vidgn.runs.config.groups import MISSING, DrySpec, ModelSpec, NormSpec, TaskSpec, TrainerSpec
from vidgn.runs.config.job import TrainingConfig
from vidgn.runs.config.records import read_record
from vidgn.runs.config.training import RunConfig

__all__ = [
    "MISSING", "DrySpec", "EvalConfig", "ModelSpec", "NormSpec", "RunConfig", "TaskSpec", "TrainerSpec",
    "TrainingConfig", "check_view_spec", "data_spec", "read_record",
]  # fmt: skip
