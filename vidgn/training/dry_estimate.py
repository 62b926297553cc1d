"""From two measured steps to the hours, the cost and the bottleneck of a whole run on GPUs of a named kind."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Gpu(NamedTuple):
    """A kind of GPU: dense peak of matrix products in TFLOP/s, memory in GiB, rental price per hour in dollars."""

    float32: float  # as convolutions of float32 run by default: TF32 where the kind has it
    bfloat16: float  # or float16 where it has no bfloat16
    memory: int
    dollars: float


# Peaks without sparsity from NVIDIA's data sheets of the four; prices are rough (on demand, 2025): give your own.
GPUS: Mapping[str, Gpu] = {
    "V100-32GB": Gpu(15.7, 125, 32, 0.6),
    "A100-80GB": Gpu(156, 312, 80, 1.8),
    "H100-80GB": Gpu(494, 989, 80, 2.8),
    "RTX4090-24GB": Gpu(82.6, 165, 24, 0.5),
}
STEP_COST = 3  # a step costs about three forward passes
SLACK_GIB = 2  # kernels' workspace, the context, fragments


class Job(NamedTuple):
    """What a whole run is.

    Attributes:
        train_clips: clips to train on, over all epochs.
        test_views: views to score at the end.
        macs: multiply-adds of one training clip.
        test_macs: multiply-adds of one view.
        activation_bytes: of one training clip, which the backward pass needs.
        parameter_bytes: of the net.
        batch: clips per device.
    """

    train_clips: int
    test_views: int
    macs: int
    test_macs: int
    activation_bytes: int
    parameter_bytes: int
    batch: int


class CostEstimate(NamedTuple):
    """What to expect. Rates are clips per second of the whole machine, memory is GiB of one GPU."""

    hours: float
    test_hours: float
    dollars: float
    net_rate: float
    read_rate: float
    memory: float
    fits: bool
    limit: str


def estimate_cost(
    job: Job,
    *,
    gpu: str,
    gpus: int,
    cores: int,
    utilization: float,
    dollars: float | None,
    half: bool,
    read_seconds: float,
    test_read_seconds: float,
) -> CostEstimate:
    """Predict a run: reading and the net overlap, so the slower of the two decides.

    Args:
        job: the run.
        gpu: a key of GPUS.
        gpus: how many.
        cores: of the machine, all reading.
        utilization: part of the peak that the net reaches.
        dollars: per GPU and hour; None: the kind's.
        half: computes in bfloat16 or float16.
        read_seconds: of one core for one training clip.
        test_read_seconds: of one core for one view.

    Raises:
        ValueError: an unknown GPU, or a number out of its range.
    """
    if gpu not in GPUS:
        raise ValueError(f"trainer.dry.gpu ({gpu}) is unknown; use one of {', '.join(GPUS)}.")
    if gpus < 1 or cores < 1 or not 0 < utilization <= 1:
        raise ValueError(
            f"trainer.dry.gpus ({gpus}) and cores ({cores}) must be at least 1 and utilization ({utilization}) in "
            "(0, 1]; set them to those of your machine."
        )
    kind = GPUS[gpu]
    flops = 1e12 * (kind.bfloat16 if half else kind.float32) * utilization * gpus
    net_rate, read_rate = flops / (2 * STEP_COST * job.macs), cores / read_seconds
    test_rate = min(flops / (2 * job.test_macs), cores / test_read_seconds)
    hours = job.train_clips / min(net_rate, read_rate) / 3600
    test_hours = job.test_views / test_rate / 3600
    memory = memory_gib(job, half=half)
    return CostEstimate(
        hours=hours,
        test_hours=test_hours,
        dollars=(hours + test_hours) * gpus * (kind.dollars if dollars is None else dollars),
        net_rate=net_rate,
        read_rate=read_rate,
        memory=memory,
        fits=memory + SLACK_GIB <= kind.memory,
        limit="the net" if net_rate <= read_rate else "reading",
    )


def memory_gib(job: Job, *, half: bool) -> float:
    """Return what training keeps on a GPU in GiB: activations of the batch; weights, gradients, momentum.

    >>> job = Job(1, 1, 1, 1, activation_bytes=2**30, parameter_bytes=2**28, batch=4)
    >>> memory_gib(job, half=False), memory_gib(job, half=True)
    (4.75, 2.75)
    """
    activations = job.activation_bytes * job.batch / (2 if half else 1)
    return (activations + 3 * job.parameter_bytes) / 2**30


def needed_cores(prediction: CostEstimate, *, read_seconds: float) -> int:
    """Return how many cores read as fast as the net takes clips."""
    return math.ceil(prediction.net_rate * read_seconds)


def estimate_record(prediction: CostEstimate) -> dict[str, Any]:
    """Return the prediction as a file has it."""
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in prediction._asdict().items()}
