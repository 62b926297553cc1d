"""What a death of a worker is called while nobody holds its process yet."""

import os

import pytest

from vidgn.data import board as board_module
from vidgn.data.board import Board
from vidgn.data.workers import explain

KILLED = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


def board_of(pid: int, path: str, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A board on which a worker with this id has written what it reads."""
    board = Board()
    with monkeypatch.context() as patch:
        patch.setattr(board_module, "get_worker_info", lambda: type("Info", (), {"id": 0}))
        patch.setattr(os, "getpid", lambda: pid)
        board.note(path)
    return board


def test_a_worker_that_dies_while_others_start_is_on_the_board(monkeypatch):
    died = explain(KILLED, [], board_of(7, "train/one.mp4", monkeypatch))
    assert str(died) == (
        "worker 7 was killed by signal 9 (SIGKILL) while it read train/one.mp4; 1 workers; signal 9 is most often lack "
        "of memory: use fewer workers (data.num_workers) or a smaller batch"
    )


def test_a_worker_of_another_loader_is_left_to_that(monkeypatch):
    assert explain(KILLED, [], board_of(8, "train/one.mp4", monkeypatch)) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ", "was killed by signal 11 (SIGSEGV)"),
        ("DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details are lost", "ended"),
        ("DataLoader worker (pid(s) 7, 9) exited unexpectedly", "ended"),
    ],
)
def test_a_death_before_any_video_has_torchs_words(text, said):
    died = explain(RuntimeError(text), (), None)
    assert str(died).startswith(f"worker 7 {said} while it read an unknown video; ")


def test_something_else_is_no_death():
    assert explain(RuntimeError("CUDA out of memory"), (), None) is None
    assert explain(ValueError(str(KILLED)), (), None) is None
