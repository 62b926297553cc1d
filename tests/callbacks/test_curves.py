from types import SimpleNamespace

import pytest

from vidgn.callbacks.curves import Curves


class Log:
    def __init__(self):
        self.saved = 0

    def save(self):
        self.saved += 1


@pytest.fixture
def trainer():
    return SimpleNamespace(is_global_zero=True, current_epoch=0, loggers=[Log()])


def test_it_draws_after_every_epoch_and_at_the_end(trainer):
    drawn = []
    curves = Curves(lambda: drawn.append(trainer.loggers[0].saved))
    curves.on_train_epoch_start(trainer, None)
    assert drawn == []  # there is nothing yet
    trainer.current_epoch = 1
    curves.on_train_epoch_start(trainer, None)
    curves.on_train_batch_end(trainer)
    curves.on_train_end(trainer, None)
    assert drawn == [1, 2]  # what was logged is on disk before it is drawn


def test_a_long_epoch_is_drawn_within(trainer):
    drawn = []
    curves = Curves(lambda: drawn.append(1), every_minutes=0.0)
    curves.on_train_batch_end(trainer)
    assert drawn == [1]


def test_only_the_first_process_draws(trainer):
    drawn = []
    trainer.is_global_zero = False
    Curves(lambda: drawn.append(1)).on_train_end(trainer, None)
    assert drawn == []


def test_a_picture_that_fails_stops_nothing(trainer):
    def draw():
        raise OSError(28, "No space left on device")

    with pytest.warns(UserWarning, match=r"the curves are not drawn \(OSError: .*No space left"):
        Curves(draw).on_train_end(trainer, None)
