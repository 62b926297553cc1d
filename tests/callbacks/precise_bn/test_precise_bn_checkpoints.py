import copy

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from vidgn.callbacks.precise_bn import KEY, PreciseBN

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),  # none on purpose
    pytest.mark.filterwarnings("ignore:.*does not have many workers which may be a bottleneck"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),  # fewer than the logging interval
    pytest.mark.filterwarnings("ignore:.*treespec.*LeafSpec.*:FutureWarning"),  # lightning's own use of torch
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),  # a resumed run
]


@pytest.mark.slow
def test_a_checkpoint_has_precise_statistics_and_the_averages_to_go_on_with(tmp_path, lab):
    keep = ModelCheckpoint(tmp_path / "ckpt", save_last=True, monitor=None)
    averages = lab.Averages()
    module = lab.Module()
    lab.fit(module, tmp_path, callbacks=[PreciseBN(num_batches=4), averages, keep])
    saved = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert lab.same(saved["state_dict"], module.validated[-1])
    assert set(saved[KEY]) == {f"net.{place}.running_{kind}" for place in (1, 4) for kind in ("mean", "var")}
    assert lab.same(saved[KEY], {name: averages.states[-1][name] for name in saved[KEY]})
    assert lab.same(module.state_dict(), module.validated[-1])  # the net at hand, too, is tested with them


@pytest.mark.slow
def test_a_checkpoint_between_validations_is_precise_and_does_not_disturb(tmp_path, lab):
    keep = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    module, plain = lab.Module(), lab.Module()
    module.net[2].p = plain.net[2].p = 0.0
    lab.fit(module, tmp_path, callbacks=[PreciseBN(num_batches=3), keep], max_epochs=1)
    lab.fit(plain, tmp_path, max_epochs=1)
    assert module.losses == plain.losses
    saved = torch.load(tmp_path / "ckpt" / "step=2.ckpt", weights_only=True)
    reference = lab.Module()
    reference.load_state_dict(saved["state_dict"])
    mean, var = lab.expected_statistics(reference, epochs=[0], num_batches=3)[4]
    torch.testing.assert_close(saved["state_dict"]["net.4.running_mean"].double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(saved["state_dict"]["net.4.running_var"].double(), var, rtol=1e-5, atol=1e-5)
    assert not torch.equal(saved[KEY]["net.4.running_mean"], saved["state_dict"]["net.4.running_mean"])


@pytest.mark.slow
def test_a_resumed_run_has_the_averages_of_one_that_went_on(tmp_path, lab):
    whole, averages = lab.Module("batch_renorm", warmup_steps=0, r_ramp_end=0, d_ramp_end=0), lab.Averages()
    whole.net[2].p = 0.0
    lab.fit(whole, tmp_path, callbacks=[PreciseBN(num_batches=4), averages], max_epochs=3)
    keep = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    parts = []
    for max_epochs, ckpt_path in ((2, None), (3, tmp_path / "ckpt" / "last.ckpt")):
        part = lab.Module("batch_renorm", warmup_steps=0, r_ramp_end=0, d_ramp_end=0)
        part.net[2].p = 0.0
        part_averages = lab.Averages()
        lab.fit(
            part, tmp_path, callbacks=[PreciseBN(num_batches=4), part_averages, copy.deepcopy(keep)],
            max_epochs=max_epochs, ckpt_path=ckpt_path,
        )  # fmt: skip
        parts += part_averages.states
    assert [loss for loss, *_ in whole.losses][6:] == [loss for loss, *_ in part.losses]
    assert len(parts) == len(averages.states) == 9
    assert all(map(lab.same, averages.states, parts))


@pytest.mark.slow
def test_a_run_that_is_being_stopped_saves_its_averages_at_once(tmp_path, monkeypatch, lab):
    module = lab.Module()
    averages = lab.Averages()
    trainer = lab.fit(module, tmp_path, callbacks=[PreciseBN(num_batches=4), averages], limit_val_batches=0)
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


class SaveAtStart(Callback):
    """Save between two steps, before or after PreciseBN hears of the next one."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx > 0:
            trainer.save_checkpoint(self.folder / f"step{trainer.global_step}.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_saved_at_the_start_of_a_step_does_not_disturb_it(first, tmp_path, lab):
    precise = PreciseBN(num_batches=3)
    save = SaveAtStart(tmp_path)
    runs = []
    for callbacks in ([], [save, precise] if first else [precise, save]):
        module, averages = lab.Module(), lab.Averages()
        lab.fit(module, tmp_path, callbacks=[*callbacks, averages], val_check_interval=2)
        runs.append((module.losses, averages.states))
    assert runs[0][0] == runs[1][0]
    assert all(map(lab.same, runs[0][1], runs[1][1]))
    saved = torch.load(tmp_path / "step2.ckpt", weights_only=True)
    assert lab.same(saved[KEY], {name: runs[1][1][1][name] for name in saved[KEY]})
    assert not torch.equal(saved[KEY]["net.1.running_var"], saved["state_dict"]["net.1.running_var"])


def test_a_checkpoint_that_is_only_to_go_on_from_costs_nothing(tmp_path, monkeypatch, lab):
    precise = PreciseBN(num_batches=3, only_resume=lambda: True)
    measured = []
    monkeypatch.setattr(precise, "_measure", lambda trainer, module: measured.append(trainer.global_step) or {})
    lab.fit(lab.Module(), tmp_path, callbacks=[precise, SaveAtStart(tmp_path)], max_epochs=1)
    assert measured == [3]  # the validation alone
    assert KEY not in torch.load(tmp_path / "step2.ckpt", weights_only=True)


@pytest.mark.slow
def test_one_measurement_serves_a_validation_and_its_checkpoint(tmp_path, lab):
    batches = []

    class Counting(lab.Module):
        def forward(self, clips):
            batches.append(self.trainer.validating)
            return super().forward(clips)

    keep = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    lab.fit(Counting(), tmp_path, callbacks=[PreciseBN(num_batches=5), keep], max_epochs=1, num_sanity_val_steps=0)
    assert len(batches) == 3 + 5 + 0  # training and measurement; this module's validation runs no forward
