from types import SimpleNamespace

import pytest
from lightning.pytorch.trainer.states import TrainerFn

from vidgn.callbacks.early_stop import EarlyStop, monitor


def trainer():
    return SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, should_stop=False, callback_metrics={}
    )


def feed(stop, values, run, metric="val/error"):
    """Return how many validations there were until the run ended."""
    for number, value in enumerate(values, 1):
        run.callback_metrics = {metric: value}
        stop.on_validation_end(run, None)
        if run.should_stop:
            return number
    return None


@pytest.mark.slow
def test_the_run_ends_after_so_many_validations_without_a_better_one():
    assert feed(EarlyStop(2), [50.0, 40.0, 41.0, 39.0, 39.0, 39.5, 30.0], trainer()) == 6  # the same is not better
    assert feed(EarlyStop(2), [50.0, 40.0, 41.0, 39.0], trainer()) is None
    assert feed(EarlyStop(2, by=monitor("top5")), [50.0, 60.0, 55.0, 59.0], trainer(), "val/top5") == 4
    assert feed(EarlyStop(1), [float("nan"), 40.0, float("nan")], trainer()) == 1


@pytest.mark.slow
def test_a_run_that_goes_on_counts_what_was_before():
    values = [50.0, 40.0, 41.0, 42.0, 43.0]
    for cut in range(1, 4):
        first, second, run = EarlyStop(3), EarlyStop(3), trainer()
        feed(first, values[:cut], trainer())
        second.load_state_dict(first.state_dict())
        assert feed(second, values[cut:], run) == 5 - cut


@pytest.mark.slow
def test_a_run_interrupted_after_its_last_validation_ends_at_once():
    stop, run = EarlyStop(1), trainer()
    stop.load_state_dict({"best": 40.0, "waited": 1})
    stop.on_train_start(run, None)
    assert run.should_stop


@pytest.mark.slow
def test_other_validations_do_not_count():
    stop, run = EarlyStop(1), trainer()
    run.state.fn = TrainerFn.VALIDATING
    feed(stop, [1.0, 2.0], run)
    assert (stop.best, stop.waited) == (None, 0)


@pytest.mark.parametrize("patience", [0, -1, 2.5, True])
def test_the_patience_is_a_number_of_validations(patience):
    with pytest.raises(ValueError, match=rf"early_stop \({patience}\) must be a number of validations, 1 or more"):
        EarlyStop(patience)


def test_an_unknown_metric_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"best_by \(acc\) must be one of error, loss, top5"):
        monitor("acc")
