"""A helper process is killed when it does not answer, and its death is told from its silence."""

import ctypes
import os
import signal
import time

import numpy as np
import pytest

from vidgn.data.helper import Helper, HelperDied, HelperTimeout


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
    assert time.monotonic() - began < 5
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


def test_a_helper_ends_with_its_parent():
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        helper = Helper(work)
        os.write(writing, str(helper.call("a", seconds=20)[1][1]).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        os.sched_yield()
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the helper outlived its parent")
