"""Test batch norm with precise statistics: recomputed before every validation and every checkpoint."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader

from vidgn.norms.precise import Moments, Statistics, statistics_layers

KEY = "precise_bn"  # of a checkpoint: the running averages that training resumes with


class Clips(Protocol):
    """The batch of a training loader."""

    clips: Tensor  # (B, K, 3, T, S, S)


class PreciseBN(L.Callback):
    """Replace running averages by the statistics of the current weights over many training batches.

    A running average is that of weights that no longer exist. Before each validation and each checkpoint the
    training clips (of this epoch, then of the next ones) run through the net in training mode; mean and
    biased variance over all of them, and over all devices, are what evaluation and checkpoint get. Training
    then continues with its running averages, weights, order and random numbers exactly as without this; a
    checkpoint keeps the averages beside the net, so that a resumed run does too. Only
    `save_weights_only=True` between validations, which shows callbacks nothing, writes the averages.

    Does nothing, and prints a note once, where no norm keeps running statistics, or only batch_renorm does, which is
    trained towards them (`statistics_layers`).
    Source: video-nonlocal-net COMPUTE_PRECISE_BN, lib/utils/bn_helper.py and tools/train_net_video.py:167-190.

    Args:
        num_batches: batches per device; video-nonlocal-net's is 200.
        only_resume: tells, while a checkpoint between validations is saved, that it is for resuming only, as
            one of a run that is asked to stop: then its net keeps the averages, and no time is spent.

    Raises:
        ValueError: `num_batches` is below 1.
        TypeError: the training loader cannot be iterated a second time.
    """

    def __init__(self, *, num_batches: int = 200, only_resume: Callable[[], bool] = lambda: False) -> None:
        if num_batches < 1:
            raise ValueError(f"num_batches ({num_batches}) must be at least 1; video-nonlocal-net has 200.")
        self.num_batches = num_batches
        self.only_resume = only_resume
        self._modes: dict[str, bool] = {}  # of every module, as training has them
        self._precise: tuple[int, Statistics] | None = None  # the step whose weights they are of, and they
        self._averages: Statistics | None = None  # training's, while precise statistics stand in the net

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Reset the state at the start of each run."""
        self._modes, self._precise, self._averages = {}, None, None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say so where there is nothing to do."""
        if not statistics_layers(pl_module):
            rank_zero_info("precise_bn: no norm of this net has running averages to replace; nothing to recompute.")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember which modules train: a resumed run may begin with its validation."""
        self._modes = {name: module.training for name, module in pl_module.named_modules()}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Continue with the running averages; remember which modules train: a run may keep norms in evaluation."""
        self._modes = {name: module.training for name, module in pl_module.named_modules()}
        if self._averages is not None:
            _write(pl_module, self._averages)
            self._averages = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate with precise statistics."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and self._averages is None:
            precise = self._measure(trainer, pl_module)
            self._averages = _read(pl_module, precise)
            _write(pl_module, precise)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save precise statistics in the net and the running averages beside it."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        hurried = trainer.received_sigterm or trainer.interrupted or self.only_resume()
        if self._averages is None and hurried:
            return
        precise = self._measure(trainer, pl_module)
        averages = _read(pl_module, precise) if self._averages is None else self._averages
        checkpoint["state_dict"].update({name: value.clone() for name, value in precise.items()})
        if precise:
            checkpoint[KEY] = {name: value.clone() for name, value in averages.items()}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue with the running averages that training had."""
        if trainer.state.fn == TrainerFn.FITTING and KEY in checkpoint:
            _write(pl_module, checkpoint[KEY])

    @torch.inference_mode(False)  # what is made here outlives the validation loop's inference mode
    @torch.no_grad()
    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> Statistics:
        """Give the statistics of the current weights; the net is left as it is."""
        if self._precise is not None and self._precise[0] == trainer.global_step:
            return self._precise[1]
        layers = {name: layer for name, layer in statistics_layers(pl_module).items() if self._modes.get(name)}
        if not layers:
            return {}
        moments = Moments(layers)
        with ExitStack() as undisturbed:
            for context in (
                torch.compiler.set_stance("force_eager"),  # compiled code would not call the hooks
                isolate_rng(),
                _modes(pl_module, self._modes),
                moments.watch(),
                trainer.precision_plugin.forward_context(),
            ):
                undisturbed.enter_context(context)
            for batch in islice(_batches(trainer), self.num_batches):
                batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
                pl_module(batch.clips.flatten(0, 1))  # (B*K, 3, T, S, S)
        precise = moments.statistics(reduce=lambda x: trainer.strategy.reduce(x, reduce_op="mean"))
        self._precise = (trainer.global_step, precise)
        return precise


@contextmanager
def _modes(module: torch.nn.Module, modes: dict[str, bool]) -> Iterator[None]:
    """Put every module into the mode it has in training, for a while."""
    before = {name: part.training for name, part in module.named_modules()}
    try:
        for name, part in module.named_modules():
            part.training = modes.get(name, part.training)
        yield
    finally:
        for name, part in module.named_modules():
            part.training = before[name]


def _batches(trainer: L.Trainer) -> Iterator[Clips]:
    """Yield training batches from this epoch on, by a loader of its own: training's keeps its place."""
    loader = trainer.train_dataloader
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        raise TypeError(
            f"The training data is a {type(loader).__name__} without a batch sampler, and precise_bn reads it a"
            " second time; give a DataLoader over a data set with a length, or leave precise_bn out."
        )
    sampler = _copy_sampler(loader.batch_sampler)
    again = DataLoader(
        loader.dataset,
        batch_sampler=sampler,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )
    for epoch in count(trainer.current_epoch):
        for part in (sampler, getattr(sampler, "sampler", sampler)):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
        yield from again


def _copy_sampler(sampler: Any) -> Any:
    """Copy a (batch) sampler without its data, and with a random generator of its own."""
    twin = copy.copy(sampler)
    if isinstance(vars(twin).get("generator"), torch.Generator):
        twin.generator = sampler.generator.clone_state()
    if "sampler" in vars(twin):  # torch's BatchSampler around another
        twin.sampler = _copy_sampler(sampler.sampler)
    return twin


@torch.inference_mode(False)
def _read(module: torch.nn.Module, like: Statistics) -> Statistics:
    return {name: module.get_buffer(name).detach().clone() for name in like}


@torch.no_grad()
def _write(module: torch.nn.Module, statistics: Statistics) -> None:
    for name, value in statistics.items():
        module.get_buffer(name).copy_(value)
