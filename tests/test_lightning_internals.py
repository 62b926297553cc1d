"""What vidgn assumes about Lightning beyond its documentation: one test per assumption, which names the version."""

import logging
import signal
import tomllib
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from vidgn import lightning_internals as internals
from vidgn.data.loading.sampler import EpochSampler

VERSION = f"Lightning {L.__version__}"
COUNTS = {"ready", "started", "processed", "completed"}


class TinyModule(L.LightningModule):
    """One layer, one optimizer."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ValidatedModule(TinyModule):
    """Records whether it is validated in inference mode."""

    def __init__(self):
        super().__init__()
        self.inference = []

    def validation_step(self, batch, batch_idx):
        self.inference.append(torch.is_inference_mode_enabled())


def fit(folder, *, module=None, train=None, epochs=1, callbacks=(), bar=False):
    """Train on three batches per epoch, validate on two, and return the trainer."""
    module, train = module or TinyModule(), train or DataLoader(list(range(6)), batch_size=2)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=bar,
        enable_model_summary=False,
        callbacks=list(callbacks),
        default_root_dir=folder,
    )
    validation = [DataLoader(list(range(6)), batch_size=3)] if isinstance(module, ValidatedModule) else []
    trainer.fit(module, train, *validation)
    return trainer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return the checkpoint that Lightning writes after three training batches and two of validation."""
    folder = tmp_path_factory.mktemp("lightning")
    trainer = fit(folder, module=ValidatedModule())
    trainer.save_checkpoint(folder / "last.ckpt")
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_the_installed_version_is_a_tested_one():
    assert L.__version__.rpartition(".")[0] in internals.TESTED, f"{VERSION} is not among {internals.TESTED}"


def test_pyproject_admits_the_tested_minor_versions_and_no_compromised_release():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    asked = [item.replace(" ", "") for item in tomllib.loads(text)["project"]["dependencies"] if "lightning" in item]
    first, last = internals.TESTED[0], internals.TESTED[-1]
    major, minor = last.split(".")
    bounds = f">={first},<{major}.{int(minor) + 1},!=2.6.2,!=2.6.3"
    assert asked == [f"lightning{bounds}", f"pytorch-lightning{bounds}"]


def test_counters_of_training_batches_are_in_the_checkpoint(checkpoint):
    counters = internals.train_counters(checkpoint)
    assert counters["is_last_batch"] is True, VERSION
    assert counters["current"] == dict.fromkeys(COUNTS, 3), VERSION
    assert counters["total"] == dict.fromkeys(COUNTS, 3), VERSION


def test_counters_of_epochs_are_in_the_checkpoint(checkpoint):
    counters = internals.epoch_counters(checkpoint)
    assert counters["current"] == counters["total"] == dict.fromkeys(COUNTS, 1), VERSION


def test_counters_of_the_validation_are_in_the_checkpoint(checkpoint):
    counters = internals.validation_counters(checkpoint)
    assert counters["is_last_batch"] is True, VERSION
    assert counters["current"] == dict.fromkeys(COUNTS, 2), VERSION
    assert set(counters["total"]) == COUNTS, VERSION


def test_batches_that_made_a_step_are_counted_in_the_checkpoint(checkpoint):
    state = checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]
    assert state["_batches_that_stepped"] == 3, VERSION
    internals.uncount_step(checkpoint)
    assert state["_batches_that_stepped"] == 2


def test_states_of_loaders_are_in_the_checkpoint(tmp_path):
    class Stateful(DataLoader):
        def state_dict(self):
            return {"start": 4, "num_items": 6}

        def load_state_dict(self, state):
            raise AssertionError("nothing is loaded here")

    trainer = fit(tmp_path, train=Stateful(list(range(6)), batch_size=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert internals.loader_states(saved) == [{"start": 4, "num_items": 6}], VERSION


def test_a_checkpoint_without_loader_states_has_none(checkpoint):
    assert internals.loader_states(checkpoint) == [], VERSION


def test_validation_within_training_is_outside_inference_mode(tmp_path):  # vidgn/runs/fsdp.py relies on it
    module = ValidatedModule()
    fit(tmp_path, module=module)
    assert module.inference, VERSION
    assert not any(module.inference), VERSION


def test_a_batch_sampler_that_is_its_own_sampler_gets_every_epoch(tmp_path):
    sampler = EpochSampler(6, batch=2, seed=0, shuffle=True)
    seen = []
    set_epoch = sampler.set_epoch
    sampler.set_epoch = lambda epoch: (seen.append(epoch), set_epoch(epoch))

    class Indices(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, key):
            return key[1]

    fit(tmp_path, train=DataLoader(Indices(), batch_sampler=sampler), epochs=3)
    assert sorted(set(seen)) == [0, 1, 2], VERSION


def test_handlers_of_signals_set_at_the_start_of_training_stay_until_its_end(tmp_path):
    def heard(number, frame):
        raise AssertionError("no signal is sent here")

    class Listen(L.Callback):
        def on_train_start(self, trainer, pl_module):
            signal.signal(signal.SIGTERM, heard)

        def on_train_end(self, trainer, pl_module):
            self.last = signal.getsignal(signal.SIGTERM)

    before, listen = signal.getsignal(signal.SIGTERM), Listen()
    fit(tmp_path, callbacks=[listen])
    assert listen.last is heard, VERSION
    assert signal.getsignal(signal.SIGTERM) is before, f"{VERSION} leaves a handler behind"


def test_nested_options_become_one_level_of_plain_values():
    assert internals.as_hparams({"a": {"b": 1, "c": None}, "d": [1, 2]}) == {"a/b": 1, "a/c": "None", "d": "[1, 2]"}, (
        VERSION
    )


def test_a_finished_logger_opens_a_new_file_of_events(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="", purge_step=3)
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.finalize("success")
    before = set(tmp_path.glob("events*"))
    first = logger.experiment
    internals.reopen_events(logger)
    logger.log_metrics({"loss": 2.0}, step=1)
    logger.finalize("success")
    assert logger.experiment is not first, VERSION
    assert before <= set(tmp_path.glob("events*")), VERSION


@pytest.mark.parametrize(
    ("name", "number"),
    [("train", 17), ("bash", None), ("interactive", None)],  # the last two are names of interactive jobs
)
def test_the_number_of_a_slurm_job_is_none_for_an_interactive_one(monkeypatch, name, number):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_NAME", name)
    assert internals.slurm_job_id() == number, VERSION


def test_no_slurm_job_has_no_number(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert internals.slurm_job_id() is None, VERSION


def test_messages_of_the_first_rank_pass_the_filter():
    log, records = logging.getLogger("lightning.pytorch.utilities.rank_zero"), []
    handler = logging.Handler()
    handler.emit = records.append

    def no_tips(record):
        return "Tip" not in record.getMessage()

    internals.filter_rank_zero_log(no_tips)
    log.addHandler(handler)
    try:
        log.warning("Tip: install this")
        log.warning("no GPU")
    finally:
        log.removeFilter(no_tips)
        log.removeHandler(handler)
    assert [record.getMessage() for record in records] == ["no GPU"], VERSION


def test_the_title_of_the_progress_bar_is_the_one_chosen(tmp_path):
    class Bar(internals.EpochTitleBar):
        def epoch_title(self, current_epoch):
            titles.append(super().epoch_title(current_epoch))
            return f"number {current_epoch}"

    titles = []
    fit(tmp_path, epochs=2, callbacks=[Bar()], bar=True)
    assert {title.split()[0] for title in titles} == {"Epoch"}, VERSION
    assert len(titles) >= 2, VERSION


@pytest.mark.parametrize(("width", "count"), [(200, 5), (139, 4), (99, 3), (79, 2)])
def test_the_parts_of_the_progress_bar_are_known_by_their_kinds(width, count):
    bar = internals.EpochTitleBar()
    assert len(bar.columns_within(width, trainer=L.Trainer(accelerator="cpu", logger=False))) == count
