"""Which validation of a run is kept as the best."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from vidgn.callbacks.checkpointing import BEST, Keep
from vidgn.callbacks.early_stop import MONITORS


def kept(keep, validations, monkeypatch):
    """Show the callback some (error, loss); return for each whether it became the best."""
    saved = []
    monkeypatch.setattr(keep, "save", lambda trainer, place, best=False: saved.append(best))
    for error, loss in validations:
        metrics = {"val/error": torch.tensor(error), "val/loss": torch.tensor(loss)}
        trainer = SimpleNamespace(
            state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, fast_dev_run=False,
            callback_metrics={name: value for name, value in metrics.items() if not value.isnan()},
        )  # fmt: skip
        keep.on_validation_end(trainer, None)
    return saved


NONE = float("nan")


@pytest.mark.parametrize(
    ("validations", "wanted"),
    [
        ([(40.0, 1.0), (30.0, 1.5), (35.0, 0.5)], [True, True, False]),  # the error decides
        ([(30.0, 1.0), (30.0, 0.9), (30.0, 0.95), (30.0, 0.9)], [True, True, False, False]),  # equal: the loss
        ([(30.0, NONE), (30.0, 0.9), (20.0, NONE)], [True, False, True]),  # no loss: the earliest of equal ones
    ],
)
def test_the_smallest_error_is_the_best_and_of_equal_ones_the_smaller_loss(tmp_path, monkeypatch, validations, wanted):
    assert kept(Keep(tmp_path), validations, monkeypatch) == wanted


def test_a_resumed_run_remembers_the_loss_of_its_best(tmp_path, monkeypatch):
    first, second = Keep(tmp_path), Keep(tmp_path)
    kept(first, [(30.0, 0.5)], monkeypatch)
    (tmp_path / BEST).touch()
    second.load_state_dict(first.state_dict())
    assert kept(second, [(30.0, 0.6), (30.0, 0.4)], monkeypatch) == [False, True]
    second.load_state_dict({"best": 30.0})  # of a checkpoint without it
    assert kept(second, [(30.0, 0.1), (20.0, 0.1)], monkeypatch) == [False, True]


def test_best_by_loss_looks_at_the_loss_alone(tmp_path, monkeypatch):
    keep = Keep(tmp_path, by=MONITORS["loss"])
    assert kept(keep, [(30.0, 0.5), (10.0, 0.6), (40.0, 0.4)], monkeypatch) == [True, False, True]
