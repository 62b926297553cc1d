import copy
import logging
import random
from typing import NamedTuple

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vidgn.callbacks.precise_bn import KEY, PreciseBN
from vidgn.data.sampler import EpochSampler
from vidgn.norms import make_norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),  # none on purpose
    pytest.mark.filterwarnings("ignore:.*does not have many workers which may be a bottleneck"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),  # fewer than the logging interval
    pytest.mark.filterwarnings("ignore:.*treespec.*LeafSpec.*:FutureWarning"),  # lightning's own use of torch
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),  # a resumed run
]


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


class Snapshot(Callback):
    """Keep the module as it is when validation starts, before its own statistics are precise."""

    def __init__(self):
        self.modules = []

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.modules.append(copy.deepcopy(pl_module.net))


def same(first, second):
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("num_batches", "epochs"), [(2, [[0], [1]]), (7, [[0, 1, 2], [1, 2, 3]])])
def test_validation_sees_the_statistics_of_its_weights_over_training_batches(num_batches, epochs, tmp_path):
    module = Module()
    module.net[2].p = 0.0  # the oracle has no dropout
    fit(module, tmp_path, callbacks=[PreciseBN(num_batches=num_batches)])
    assert len(module.validated) == 3  # the first is the sanity check, with the statistics of a fresh net
    assert torch.equal(module.validated[0]["net.1.running_mean"], torch.zeros(4))
    for state, wanted in zip(module.validated[1:], epochs, strict=True):
        reference = Module()
        reference.load_state_dict(state)
        for place, (mean, var) in expected_statistics(reference, epochs=wanted, num_batches=num_batches).items():
            found = state[f"net.{place}.running_mean"], state[f"net.{place}.running_var"]
            torch.testing.assert_close(found[0].double(), mean, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found[1].double(), var, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["bn", "sync_bn", "sub_bn", "batch_renorm"])
def test_training_goes_on_exactly_as_without(norm, tmp_path):
    runs = []
    for callbacks in ([], [PreciseBN(num_batches=4)]):
        options = {"warmup_steps": 1, "r_ramp_end": 3, "d_ramp_end": 3} if norm == "batch_renorm" else {}
        module, keep = Module(norm, **options), Averages()
        fit(module, tmp_path, callbacks=[*callbacks, keep], val_check_interval=2, max_epochs=3)
        runs.append((module, keep))
    (plain, plain_averages), (precise, precise_averages) = runs
    assert len(plain.losses) == 9
    assert plain.losses == precise.losses  # bit for bit, and the random numbers too
    assert same(dict(plain.named_parameters()), dict(precise.named_parameters()))
    assert len(plain_averages.states) == 9
    assert all(map(same, plain_averages.states, precise_averages.states))
    assert not same(plain.validated[1], precise.validated[1])


class Averages(Callback):
    """Keep the buffers at the end of every training step."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.states.append({name: buffer.clone() for name, buffer in pl_module.named_buffers()})


def test_a_checkpoint_has_precise_statistics_and_the_averages_to_go_on_with(tmp_path):
    keep = ModelCheckpoint(tmp_path / "ckpt", save_last=True, monitor=None)
    averages = Averages()
    module = Module()
    fit(module, tmp_path, callbacks=[PreciseBN(num_batches=4), averages, keep])
    saved = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert same(saved["state_dict"], module.validated[-1])
    assert set(saved[KEY]) == {f"net.{place}.running_{kind}" for place in (1, 4) for kind in ("mean", "var")}
    assert same(saved[KEY], {name: averages.states[-1][name] for name in saved[KEY]})
    assert same(module.state_dict(), module.validated[-1])  # the net at hand, too, is tested with them


def test_a_checkpoint_between_validations_is_precise_and_does_not_disturb(tmp_path):
    keep = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    module, plain = Module(), Module()
    module.net[2].p = plain.net[2].p = 0.0
    fit(module, tmp_path, callbacks=[PreciseBN(num_batches=3), keep], max_epochs=1)
    fit(plain, tmp_path, max_epochs=1)
    assert module.losses == plain.losses
    saved = torch.load(tmp_path / "ckpt" / "step=2.ckpt", weights_only=True)
    reference = Module()
    reference.load_state_dict(saved["state_dict"])
    mean, var = expected_statistics(reference, epochs=[0], num_batches=3)[4]
    torch.testing.assert_close(saved["state_dict"]["net.4.running_mean"].double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(saved["state_dict"]["net.4.running_var"].double(), var, rtol=1e-5, atol=1e-5)
    assert not torch.equal(saved[KEY]["net.4.running_mean"], saved["state_dict"]["net.4.running_mean"])


def test_a_resumed_run_has_the_averages_of_one_that_went_on(tmp_path):
    whole, averages = Module("batch_renorm", warmup_steps=0, r_ramp_end=0, d_ramp_end=0), Averages()
    whole.net[2].p = 0.0
    fit(whole, tmp_path, callbacks=[PreciseBN(num_batches=4), averages], max_epochs=3)
    keep = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    parts = []
    for max_epochs, ckpt_path in ((2, None), (3, tmp_path / "ckpt" / "last.ckpt")):
        part = Module("batch_renorm", warmup_steps=0, r_ramp_end=0, d_ramp_end=0)
        part.net[2].p = 0.0
        part_averages = Averages()
        fit(
            part, tmp_path, callbacks=[PreciseBN(num_batches=4), part_averages, copy.deepcopy(keep)],
            max_epochs=max_epochs, ckpt_path=ckpt_path,
        )  # fmt: skip
        parts += part_averages.states
    assert [loss for loss, *_ in whole.losses][6:] == [loss for loss, *_ in part.losses]
    assert len(parts) == len(averages.states) == 9
    assert all(map(same, averages.states, parts))


def test_layers_that_training_freezes_keep_their_statistics(tmp_path):
    class Frozen(Module):
        def on_train_epoch_start(self):
            self.net[1].eval()

    module = Frozen()
    fit(module, tmp_path, callbacks=[PreciseBN(num_batches=2)])
    assert torch.equal(module.validated[-1]["net.1.running_mean"], torch.zeros(4))
    assert not torch.equal(module.validated[-1]["net.4.running_mean"], torch.zeros(4))


@pytest.mark.parametrize("norm", ["gn", "frozen_bn", "none"])
def test_norms_without_running_statistics_are_left_alone_and_it_is_said_once(norm, tmp_path, caplog):
    options = {"num_groups": 2} if norm == "gn" else {}
    module, plain = Module(norm, **options), Module(norm, **options)
    data = loader()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(module, tmp_path, callbacks=[PreciseBN()], data=data)
    fit(plain, tmp_path)
    said = [record.message for record in caplog.records if "precise_bn" in record.message]
    assert said == ["precise_bn: no norm of this net keeps running statistics; nothing to recompute."]
    assert module.losses == plain.losses
    assert same(module.state_dict(), plain.state_dict())


def test_a_run_that_is_being_stopped_saves_its_averages_at_once(tmp_path, monkeypatch):
    module = Module()
    averages = Averages()
    trainer = fit(module, tmp_path, callbacks=[PreciseBN(num_batches=4), averages], limit_val_batches=0)
    monkeypatch.setattr(type(trainer), "received_sigterm", True)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    saved = torch.load(tmp_path / "stopped.ckpt", weights_only=True)
    assert KEY not in saved
    name = "net.4.running_mean"
    assert torch.equal(saved["state_dict"][name], averages.states[-1][name])
    monkeypatch.undo()
    trainer.save_checkpoint(tmp_path / "ended.ckpt")
    saved = torch.load(tmp_path / "ended.ckpt", weights_only=True)
    assert not torch.equal(saved["state_dict"][name], averages.states[-1][name])
    assert torch.equal(saved[KEY][name], averages.states[-1][name])


def test_a_shuffling_loader_of_torch_keeps_its_order(tmp_path):
    def shuffled():
        clips = TensorDataset(torch.randn(12, 1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1)))
        return DataLoader(
            clips, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(2),
            collate_fn=lambda samples: Batch(torch.stack([clip for clip, in samples]), torch.tensor([0, 1, 0, 1])),
        )  # fmt: skip

    module, plain = Module(), Module()
    fit(module, tmp_path, callbacks=[PreciseBN(num_batches=5)], data=shuffled())
    fit(plain, tmp_path, data=shuffled())
    assert module.losses == plain.losses
    assert not same(module.validated[-1], plain.validated[-1])


def test_data_that_cannot_be_read_twice_is_refused(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([Batch(torch.randn(4, 1, 3, 2, 4, 4), torch.tensor([0, 1, 0, 1]))])

    stream = DataLoader(Stream(), batch_size=None)
    with pytest.raises(TypeError, match="The training data is a DataLoader without a batch sampler, and precise_bn"):
        fit(Module(), tmp_path, callbacks=[PreciseBN()], data=stream)


def test_num_batches_below_one_is_refused():
    with pytest.raises(ValueError, match=r"num_batches \(0\) must be at least 1; video-nonlocal-net has 200"):
        PreciseBN(num_batches=0)
