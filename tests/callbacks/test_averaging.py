import copy
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from vidgn.callbacks.averaging import WeightAverage


def trainer(max_epochs=4):
    return SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, global_step=0, current_epoch=0,
        max_epochs=max_epochs,
    )  # fmt: skip


def net(value=0.0):
    layer = nn.BatchNorm1d(1)
    nn.init.constant_(layer.weight, value)
    return layer


def step(average, run, layer, value):
    with torch.no_grad():
        layer.weight.fill_(value)
    layer.num_batches_tracked += 1
    run.global_step += 1
    average.on_train_batch_end(run, None, None, None, 0)


@pytest.mark.slow
def test_the_average_follows_the_weights_slowly_and_is_validated_in_their_place():
    layer, run = net(0.0), trainer()
    average = WeightAverage(layer, decay=0.5)
    average.on_train_start(run, None)
    step(average, run, layer, 1.0)  # decay min(0.5, 2/11)
    step(average, run, layer, 1.0)  # decay min(0.5, 3/12)
    average.on_train_batch_end(run, None, None, None, 0)  # of an accumulated batch: no step was made
    expected = 1 - (2 / 11) * (3 / 12)
    average.on_validation_start(run, None)
    assert layer.weight.item() == pytest.approx(expected, rel=1e-6)
    assert layer.num_batches_tracked.item() == 2
    average.on_validation_end(run, None)
    assert layer.weight.item() == 1.0


@pytest.mark.slow
def test_swa_is_the_mean_of_the_late_epochs():
    layer, run = net(), trainer(max_epochs=4)
    average = WeightAverage(layer, swa=0.5)
    average.on_train_start(run, None)
    seen = []
    for epoch, value in enumerate((8.0, 6.0, 1.0, 3.0)):
        run.current_epoch = epoch
        step(average, run, layer, value)
        average.on_validation_start(run, None)
        seen.append(layer.weight.item())
        average.on_validation_end(run, None)
    assert seen == [8.0, 6.0, 1.0, 2.0]
    assert layer.weight.item() == 3.0


def saved(average, run, layer):
    checkpoint = {"state_dict": {f"net.{name}": value.clone() for name, value in layer.state_dict().items()}}
    average.on_save_checkpoint(run, None, checkpoint)
    return copy.deepcopy(checkpoint)  # as a file is


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"decay": 0.9}, {"swa": 0.1}])
def test_a_run_that_goes_on_has_the_same_average_to_the_bit(options):
    values = torch.rand(6, generator=torch.Generator().manual_seed(0)).tolist()

    def epoch(average, run, layer, value):
        step(average, run, layer, value)
        average.on_validation_start(run, None)
        average.on_validation_end(run, None)

    whole, layer, run = None, net(), trainer(6)
    whole = WeightAverage(layer, **options)
    whole.on_train_start(run, None)
    for value in values[:3]:
        epoch(whole, run, layer, value)
    checkpoint = saved(whole, run, layer)
    for value in values[3:]:
        epoch(whole, run, layer, value)
    again, other = net(checkpoint["state_dict"]["net.weight"].item()), trainer(6)
    again.num_batches_tracked.fill_(3)
    other.global_step = 3
    second = WeightAverage(again, **options)
    second.on_load_checkpoint(other, None, checkpoint)
    second.on_train_start(other, None)
    for value in values[3:]:
        epoch(second, other, again, value)
    first = saved(whole, run, layer)["averaged"]
    last = saved(second, other, again)["averaged"]
    assert first["count"] == last["count"] == 6
    assert all(torch.equal(first["tensors"][name], last["tensors"][name]) for name in first["tensors"])


@pytest.mark.slow
def test_a_checkpoint_within_a_validation_holds_the_trained_weights():
    layer, run = net(), trainer()
    average = WeightAverage(layer, decay=0.9)
    average.on_train_start(run, None)
    step(average, run, layer, 5.0)
    average.on_validation_start(run, None)
    checkpoint = saved(average, run, layer)
    assert checkpoint["state_dict"]["net.weight"].item() == 5.0
    assert checkpoint["averaged"]["tensors"]["weight"].item() != 5.0
    average.on_exception(run, None, KeyboardInterrupt())
    assert layer.weight.item() == 5.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, r"ema \(1.0\) must be in \(0, 1\); 0.999 is usual"),
        ({"swa": 0.0}, r"swa \(0.0\) must be in \(0, 1\), a share of the epochs"),
        ({"decay": 0.9, "swa": 0.5}, r"ema \(0.9\) and swa \(0.5\) are two kinds of averages"),
        ({}, r"ema \(None\) and swa \(None\) are two kinds"),
    ],
)
def test_a_wrong_value_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        WeightAverage(net(), **options)
