"""A small run in which every number of training can be compared."""

import copy
import random
from types import SimpleNamespace
from typing import NamedTuple

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vidgn.data.loading.sampler import EpochSampler
from vidgn.norms import make_norm


class Batch(NamedTuple):
    clips: Tensor  # (B, 1, 3, T, S, S)
    labels: Tensor


class Clips(torch.utils.data.Dataset):
    """A clip is a function of (epoch, index)."""

    def __init__(self, num=12):
        self.num = num

    def __len__(self):
        return self.num

    def __getitem__(self, place):
        epoch, index = place
        clip = np.random.default_rng([epoch, index]).normal(index, 1 + index, (1, 3, 2, 4, 4))
        return torch.tensor(clip, dtype=torch.float32), index % 2


def collate(samples):
    clips, labels = zip(*samples, strict=True)
    return Batch(torch.stack(clips), torch.tensor(labels))


def loader(*, shuffle=True, batch=4, num=12):
    sampler = EpochSampler(num, batch=batch, seed=3, shuffle=shuffle, drop_last=shuffle)
    return DataLoader(Clips(num), batch_sampler=sampler, collate_fn=collate)


class Module(L.LightningModule):
    """A net with dropout, whose losses and random numbers are recorded."""

    def __init__(self, norm="bn", **options):
        super().__init__()
        torch.manual_seed(0)
        factory = make_norm(norm, **options)
        self.net = nn.Sequential(
            nn.Conv3d(3, 4, 1), factory(4), nn.Dropout(0.5), nn.Conv3d(4, 4, 1), factory(4), nn.Flatten(),
            nn.Linear(128, 2),
        )  # fmt: skip
        self.losses, self.validated = [], []

    def forward(self, clips):
        return self.net(clips)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch.clips.flatten(0, 1)), batch.labels)
        self.losses.append((loss.item(), random.random(), np.random.rand(), torch.rand(()).item()))
        return loss

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0:
            assert not self.training
            self.validated.append({name: tensor.clone() for name, tensor in self.state_dict().items()})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def fit(module, folder, *, callbacks=(), data=None, ckpt_path=None, seed=5, **options):
    L.seed_everything(seed, verbose=False)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, use_distributed_sampler=False, callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **{"max_epochs": 2, "num_sanity_val_steps": 1, "log_every_n_steps": 1} | options,
    )  # fmt: skip
    trainer.fit(module, loader() if data is None else data, loader(shuffle=False), ckpt_path=ckpt_path)
    return trainer


def expected_statistics(module, *, epochs, num_batches):
    """Run the training batches of the epochs through a float64 copy with batch statistics."""
    net = copy.deepcopy(module.net).double().train()
    for part in net:
        part.train(not isinstance(part, nn.Dropout))
    seen = {1: [], 4: []}
    for place, inputs in seen.items():
        net[place].register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0].detach()))
    data = loader()
    done = 0
    for epoch in epochs:
        data.batch_sampler.set_epoch(epoch)
        for batch in data:
            if done < num_batches:
                net(batch.clips.flatten(0, 1).double())
                done += 1
    assert done == num_batches
    whole = {place: torch.cat(inputs) for place, inputs in seen.items()}
    axes = (0, 2, 3, 4)
    return {place: (x.mean(axes), x.var(axes, correction=0)) for place, x in whole.items()}


def same(first, second):
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


class Averages(Callback):
    """Keep the buffers at the end of every training step."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.states.append({name: buffer.clone() for name, buffer in pl_module.named_buffers()})


@pytest.fixture(scope="session")
def lab():
    return SimpleNamespace(
        Batch=Batch, Module=Module, Averages=Averages, loader=loader, fit=fit,
        expected_statistics=expected_statistics, same=same
    )  # fmt: skip
