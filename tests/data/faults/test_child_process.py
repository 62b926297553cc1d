"""A helper process is killed when it does not answer, and its death is told from its silence."""

import ctypes
import gc
import os
import signal
import threading
import time

import numpy as np
import pytest

from vidgn.data.faults import child_process as helper_module
from vidgn.data.faults.child_process import Helper, HelperDied, HelperTimeout, answered, held_signals


def work(word: str) -> tuple[list[np.ndarray], object]:
    if word == "sleep":
        ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the interpreter lock
    if word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        os._exit(3)
    if word == "error":
        raise FileNotFoundError(2, "gone", "a.mp4")
    if word == "odd":
        raise Odd(1, 2)
    picture = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    return [picture, picture.transpose(2, 0, 1), np.array(5), np.empty((0, 3))], (word, os.getpid())


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


def test_arrays_come_back_equal_and_in_the_same_order_in_memory():
    helper = Helper(work)
    (whole, turned, number, empty), (word, pid) = helper.call("a", seconds=20)
    expected = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(whole, expected)
    assert np.array_equal(turned, expected.transpose(2, 0, 1))
    assert turned.strides == (1, 12, 4)
    assert (int(number), empty.shape, word) == (5, (0, 3), "a")
    assert pid != os.getpid()
    assert helper.call("b", seconds=20)[1] == ("b", pid)
    assert np.array_equal(whole, expected)  # the next answer did not overwrite it
    helper.close()


def test_a_helper_that_holds_the_interpreter_lock_for_ever_is_killed():
    helper = Helper(work)
    _, (_, pid) = helper.call("a", seconds=20)
    began = time.monotonic()
    with pytest.raises(HelperTimeout, match=r"0\.3") as caught:
        helper.call("sleep", seconds=0.3)
    assert time.monotonic() - began < 200  # of 1000
    assert not caught.value.waits_for_disk
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(pid, 0)
    assert helper.call("a", seconds=20)[1][1] != pid
    helper.close()


@pytest.mark.parametrize(("word", "number"), [("segfault", 11), ("killed", 9), ("exit", None)])
def test_the_signal_that_killed_a_helper_is_known(word, number):
    helper = Helper(work)
    with pytest.raises(HelperDied, match=str(number)) as caught:
        helper.call(word, seconds=20)
    assert caught.value.signal == number
    assert helper.call("a", seconds=20)[1][0] == "a"
    helper.close()


def test_errors_are_raised_here():
    helper = Helper(work)
    with pytest.raises(FileNotFoundError, match=r"gone: 'a\.mp4'"):
        helper.call("error", seconds=20)
    with pytest.raises(RuntimeError, match="Odd: odd"):  # it cannot be pickled
        helper.call("odd", seconds=20)
    helper.close()


def is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, *, within: float = 20) -> bool:
    """Wait for the end of a process."""
    end = time.monotonic() + within
    while is_running(pid) and time.monotonic() < end:
        os.sched_yield()
    return not is_running(pid)


def test_a_helper_ends_with_its_parent():
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        helper = Helper(work)
        os.write(writing, str(helper.call("a", seconds=20)[1][1]).encode())
        signal.pause()
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    assert is_running(pid)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert gone(pid)


def test_a_helper_ends_with_what_it_was_made_for():
    helper = Helper(work)
    pid = helper.call("a", seconds=20)[1][1]
    assert is_running(pid)
    del helper
    assert gone(pid)


def test_a_helper_of_a_thread_that_has_ended_is_replaced():
    helper, pids = Helper(work), []
    thread = threading.Thread(target=lambda: pids.append(helper.call("a", seconds=20)[1][1]))
    thread.start()
    thread.join()
    assert gone(pids[0])  # the system ends it with the thread that made it
    assert helper.call("b", seconds=20)[1][0] == "b"
    helper.close()


def test_a_helper_leaves_the_signals_of_its_group_to_its_parent():
    helper = Helper(work)
    pid = helper.call("a", seconds=20)[1][1]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(pid, number)
    assert helper.call("b", seconds=20)[1] == ("b", pid)
    helper.close()


def test_what_is_to_be_prepared_is_prepared_there():
    helper = Helper(work, prepare=lambda: os.environ.update(HELPER_TEST="x"))
    helper.call("a", seconds=20)
    assert "HELPER_TEST" not in os.environ
    seen = Helper(lambda: ([], os.environ["HELPER_TEST"]), prepare=lambda: os.environ.update(HELPER_TEST="x"))
    assert seen.call(seconds=20) == ([], "x")


def test_garbage_of_the_parent_is_not_collected_in_the_helper():
    """A loader's iterator that was collected there would tell the workers of the parent to end."""
    reading, writing = os.pipe()

    class Ends:
        def __init__(self):
            self.me = self  # only the garbage collector ends it

        def __del__(self):
            os.write(writing, str(os.getpid()).encode())

    gc.disable()
    try:
        Ends()
        helper = Helper(lambda: ([], gc.collect()))
        helper.call(seconds=20)
        helper.close()
    finally:
        gc.enable()
    gc.collect()
    assert int(os.read(reading, 20)) == os.getpid()  # once, and here
    os.close(reading)
    os.close(writing)


def test_a_helper_that_the_system_holds_up_is_not_waited_for(monkeypatch):
    helper = Helper(work)
    pid = helper.call("a", seconds=20)[1][1]
    monkeypatch.setattr(helper_module, "_REAP_SECONDS", 0.1)
    monkeypatch.setattr(helper_module, "waits_for_disk", lambda pid: True)
    monkeypatch.setattr(os, "waitpid", lambda pid, options: (0, 0))  # as for a process in state D
    began = time.monotonic()
    with pytest.raises(HelperTimeout, match=r"0\.2") as caught:
        helper.call("sleep", seconds=0.2)
    assert caught.value.waits_for_disk
    assert time.monotonic() - began < 200  # of 1000
    monkeypatch.undo()
    os.waitpid(pid, 0)


class Clock:
    """Time that passes in `poll` alone, and jumps where the process was stopped."""

    def __init__(self, *, answer_after, stops=()):
        self.now, self.running = 0.0, 0.0
        self.answer_after, self.stops = answer_after, dict(stops)

    def poll(self, seconds):
        if self.running + seconds >= self.answer_after:
            return True
        self.running += seconds
        self.now += seconds + self.stops.pop(round(self.running, 2), 0)
        return False


def test_a_deadline_counts_time_in_which_the_process_could_run():
    clock = Clock(answer_after=2, stops={0.5: 3600, 1.5: 100})
    assert answered(clock.poll, seconds=3, clock=lambda: clock.now)
    assert clock.now > 3600
    clock = Clock(answer_after=10, stops={0.5: 3600})
    assert not answered(clock.poll, seconds=3, clock=lambda: clock.now)
    assert 2 <= clock.running <= 3


def test_a_process_forked_by_us_never_gets_what_ends_a_job():
    helper = Helper(lambda: ([np.array([int(signal.getsignal(n) == signal.SIG_IGN) for n in (10, 15)])], None))
    (ignored,), _ = helper.call(seconds=100)
    assert ignored.tolist() == [1, 1]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGUSR1}
    with held_signals():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) >= {signal.SIGTERM, signal.SIGUSR1}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGUSR1}
