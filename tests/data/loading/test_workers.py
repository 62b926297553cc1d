"""What a death of a worker is called while nobody holds its process yet."""

import multiprocessing
import os
import select
import signal

import pytest

from vidgn.data.loading import worker_status as board_module
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.worker_status import Board
from vidgn.data.loading.workers import end_with_parent, explain_failure, kill_daemons

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
    died = explain_failure(KILLED, [], board_of(7, "train/one.mp4", monkeypatch))
    assert str(died) == (
        "worker 7 was killed by signal 9 (SIGKILL) while it read train/one.mp4; 1 workers; signal 9 is most often lack "
        "of memory: use fewer workers (data.num_workers) or a smaller batch"
    )


def test_a_worker_of_another_loader_is_left_to_that(monkeypatch):
    assert explain_failure(KILLED, [], board_of(8, "train/one.mp4", monkeypatch)) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ", "was killed by signal 11 (SIGSEGV)"),
        ("DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details are lost", "ended"),
        ("DataLoader worker (pid(s) 7, 9) exited unexpectedly", "ended"),
    ],
)
def test_a_death_before_any_video_has_torchs_words(text, said):
    died = explain_failure(RuntimeError(text), (), None)
    assert str(died).startswith(f"worker 7 {said} while it read an unknown video; ")


def test_something_else_is_no_death():
    assert explain_failure(RuntimeError("CUDA out of memory"), (), None) is None
    assert explain_failure(ValueError(str(KILLED)), (), None) is None


def be_killed_while_a_worker_begins(told: int) -> None:
    """In a process of its own: a loader whose process is killed between the fork of its worker and its first step."""
    alive, living = os.pipe()

    def wait_for_the_death_of_the_parent() -> None:
        os.close(living)
        os.write(told, os.getpid().to_bytes(4, "little"))
        os.read(alive, 1)

    os.register_at_fork(
        after_in_child=wait_for_the_death_of_the_parent,
        after_in_parent=lambda: os.kill(os.getpid(), signal.SIGKILL),
    )
    next(iter(VideoLoader([1], num_workers=1, worker_init_fn=end_with_parent)))


def test_a_worker_whose_parent_was_killed_before_it_began_ends_as_well():
    """Of torch's own accord it would stay for ever: it looks for a parent other than the one it first saw."""
    read, told = os.pipe()
    process = os.fork()
    if not process:
        try:
            be_killed_while_a_worker_begins(told)
        finally:
            os._exit(3)
    os.close(told)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    worker = int.from_bytes(os.read(read, 4), "little")
    ended, _, _ = select.select([read], [], [], 60)  # no process holds the other end any more
    if not ended:
        os.kill(worker, signal.SIGKILL)
    os.close(read)
    assert ended, f"worker {worker} outlived its parent"


def _ignore_and_wait(pipe):
    end_with_parent(0)
    pipe.send(os.getpid())
    signal.pause()


def test_a_worker_that_ignores_what_ends_a_job_ends_with_its_process_all_the_same(monkeypatch):
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_ignore_and_wait, args=(theirs,), daemon=True)
    worker.start()
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [worker])  # not those of other tests
    assert ours.recv() == worker.pid
    worker.terminate()  # what multiprocessing does when this process ends, and then waits
    kill_daemons(os.getpid() + 1)  # a fork of this process has no children
    assert worker.is_alive()
    kill_daemons(os.getpid())
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
