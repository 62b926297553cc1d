"""The share of time a run waits for data, on a clock that only reading and training move."""

import csv
import os
import subprocess
import sys
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger
from torch import nn

from vidgn.callbacks import process_memory, throughput
from vidgn.callbacks.throughput import Bar, Pace
from vidgn.data.batches import ClipBatch
from vidgn.data.faults.quarantine import BadVideo, Quarantine
from vidgn.data.loading import loader
from vidgn.data.loading.loader import VideoLoader


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    monkeypatch.setattr(loader, "time", clock)
    return clock


class Reading(torch.utils.data.Dataset):
    """Twelve batches of 2 x 2 clips; each takes `seconds` to read."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def __len__(self):
        return 12

    def __getitem__(self, index):
        self.clock.now += self.seconds
        return ClipBatch(torch.ones((2, 2, 3, 1, 1, 1), dtype=torch.uint8), torch.zeros(2), torch.tensor([0, 1]))


class Module(L.LightningModule):
    """A step takes a second, and so does a validation."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.weight = clock, nn.Parameter(torch.ones(1))

    def training_step(self, batch, batch_idx):
        self.clock.now += 1
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.clock.now += 50

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Seen(Logger):
    name = version = ""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_hyperparams(self, *args, **kwargs): ...

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))


class Quiet(Seen):
    """A logger that is the same however often a run was stopped."""


def fit(clock, tmp_path, *, seconds, loggers=(), quarantine=None):
    watch = Pace(tmp_path / "pace.csv", but_not=(Quiet,))
    trainer = L.Trainer(
        max_steps=12, accelerator="cpu", logger=list(loggers), enable_checkpointing=False, max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=4, callbacks=[watch],
        val_check_interval=6, limit_val_batches=1, num_sanity_val_steps=0,
    )  # fmt: skip
    data = VideoLoader(Reading(clock, seconds), batch_size=None)
    module = L.LightningDataModule()
    module.train_dataloader, module.quarantine = lambda: data, quarantine
    module.val_dataloader = lambda: VideoLoader(Reading(clock, 0), batch_size=None)
    trainer.fit(Module(clock), module)
    with (tmp_path / "pace.csv").open() as file:
        return watch, list(csv.DictReader(file))


@pytest.mark.slow
def test_a_loop_that_waits_is_data_bound(clock, tmp_path, capsys):
    seen, quiet = Seen(), Quiet()
    watch, rows = fit(clock, tmp_path, seconds=3, loggers=(seen, quiet))
    # Four times three seconds of reading and one of training, for four clips each; validation is left out.
    assert [float(row["pace/data_share"]) for row in rows] == [75, 75, 75]
    assert [float(row["pace/clips_per_second"]) for row in rows] == [1, 1, 1]
    assert [int(row["step"]) for row in rows] == [4, 8, 12]
    assert all(float(row["pace/memory_gb"]) > 0.1 for row in rows)
    assert watch.bar() == {"waiting": "75%"}
    out = capsys.readouterr().out
    assert "step 4: data-bound: 1.0 clips/s, waiting for data 75 % of the time; data.num_workers" in out
    assert out.count("data-bound") == 1  # said where it changes
    assert [step for step, metrics in seen.rows if "pace/data_share" in metrics] == [4, 8, 12]
    assert not any("pace" in name for _, metrics in quiet.rows for name in metrics)


def test_a_loop_that_does_not_wait_is_model_bound(clock, tmp_path, capsys):
    watch, _ = fit(clock, tmp_path, seconds=0.05)
    assert watch.word == "model-bound"
    assert "step 4: model-bound: 3.8 clips/s, waiting for data 5 % of the time\n" in capsys.readouterr().out


@pytest.mark.slow
def test_bad_videos_are_counted_and_named_once(clock, tmp_path, capsys):
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", num_videos=10, max_share=1)
    quarantine.add(BadVideo("old.mp4", "cut", "train", 0, 0, 1.0, 1.7e9))
    read = Reading.__getitem__

    def find(self, index):
        if index == 6:
            quarantine.add(BadVideo("new.mp4", "empty file", "val", 1, 0, 1.0, 1.7e9))
        return read(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reading, "__getitem__", find)
        watch, rows = fit(clock, tmp_path, seconds=0.05, quarantine=quarantine)
    assert [float(row["pace/bad_videos"]) for row in rows] == [1, 2, 2]
    assert watch.bar()["bad"] == "2"
    out = capsys.readouterr().out
    assert out.count("unreadable video: new.mp4: empty file; counted as wrong, listed in ") == 1
    assert "old.mp4" not in out  # a run before has said it


@pytest.mark.slow
def test_a_resumed_run_forgets_what_came_after_its_checkpoint(clock, tmp_path):
    _, rows = fit(clock, tmp_path, seconds=1)
    assert [int(row["step"]) for row in rows] == [4, 8, 12]
    for step, left in ((9, 2), (4, 1), (0, 0)):
        trainer = SimpleNamespace(is_global_zero=True, global_step=step, datamodule=None)
        Pace(tmp_path / "pace.csv").on_train_start(trainer, None)
        with (tmp_path / "pace.csv").open() as file:
            assert list(csv.DictReader(file)) == rows[:left]


@pytest.mark.slow
def test_the_progress_bar_shows_it(tmp_path):
    watch = Pace(tmp_path / "pace.csv")
    assert watch.bar() == {}
    watch.data_share = 4.2
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[Bar(watch)])
    assert trainer.progress_bar_callback.get_metrics(trainer, None)["waiting"] == "4%"


@pytest.mark.slow
def test_memory_is_that_of_a_process_and_of_all_it_started():
    grandchild = "print(1, flush=True); input()"  # it speaks once it is more than a copy of its parent
    code = f"import subprocess as s, sys; s.Popen([sys.executable, '-Sc', {grandchild!r}]); input()"
    child = subprocess.Popen([sys.executable, "-Sc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    try:
        found = process_memory.descendants(child.pid)
        assert len(found) == 1
        assert {child.pid, *found} <= set(process_memory.descendants(os.getpid()))
        assert process_memory.resident_bytes(found[0]) > 1_000_000
    finally:
        child.communicate(b"\n\n")
    assert process_memory.resident_bytes(child.pid) == 0
    assert process_memory.descendants(child.pid) == []
