"""A line per epoch with what a person wants to know, and a progress bar that counts from 1."""

import io
import re
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from rich.console import Console
from rich.progress import Progress, TextColumn
from torch import nn

from vidgn.callbacks import throughput
from vidgn.callbacks.epoch_lines import EpochLines
from vidgn.callbacks.throughput import Bar, Pace


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def training_step(self, batch, index):
        self.log("train/loss", torch.tensor(0.5), batch_size=2)
        return self.weight.sum()

    def on_train_epoch_end(self):
        self.log("train/error", 40.0)

    def validation_step(self, batch, index):
        self.log("val/error", 25.0, batch_size=2)
        self.log("val/loss", 0.75, batch_size=2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.125)


def loader():
    def clips(items):
        return SimpleNamespace(clips=torch.zeros(2, 1, 1))

    return torch.utils.data.DataLoader([0, 1, 2, 3], batch_size=2, collate_fn=clips)


@pytest.mark.slow
def test_each_epoch_is_one_line_that_counts_from_1(tmp_path, capsys):
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path, callbacks=[EpochLines()],
    )  # fmt: skip
    trainer.fit(Module(), loader(), loader())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    told = "loss 0.500, train error 40.0 %, val error 25.0 %, val loss 0.750, rate 0.125, "
    for line in lines:
        assert told in line
        assert re.search(r"[\d.]+ clips/s, \d+:\d\d:\d\d, \d+:\d\d:\d\d left$", line)


def test_the_progress_bar_counts_from_1_and_shows_no_version(tmp_path):
    bar = Bar(Pace(tmp_path / "pace.csv"))
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=8, logger=False, enable_checkpointing=False, callbacks=[bar],
        default_root_dir=tmp_path,
    )  # fmt: skip
    bar.setup(trainer, Module(), "fit")
    assert bar.epoch_title(0).split() == ["epoch", "1/8"]
    trainer.callback_metrics.update({})
    assert "v_num" not in bar.get_metrics(trainer, Module())


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 60, 66, 80, 100, 139, 140, 200])
def test_the_progress_bar_fits_one_line_of_any_terminal(tmp_path, monkeypatch, width):
    console = Console(width=width, force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(throughput, "get_console", lambda: console)
    pace = Pace(tmp_path / "pace.csv")
    pace.data_share = 87.5
    bar = Bar(pace)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=100, logger=False, enable_checkpointing=False, callbacks=[bar],
        default_root_dir=tmp_path,
    )  # fmt: skip
    bar.setup(trainer, Module(), "fit")
    monkeypatch.setattr(type(trainer), "progress_bar_metrics", {"train/loss": 2.345, "val/error": 87.654})
    metrics = bar.get_metrics(trainer, Module())
    assert metrics["loss"] == 2.345
    text = " ".join(f"{name}: {value}" for name, value in metrics.items())
    shown = Progress(*bar.configure_columns(trainer), TextColumn(text), console=console)
    shown.add_task(bar.epoch_title(11), total=1800)
    lines = [segment.text for segment in console.render(shown.get_renderable()) if segment.text.strip(" ")]
    assert lines.count("\n") == 1
    assert "0/1800" in "".join(lines)
