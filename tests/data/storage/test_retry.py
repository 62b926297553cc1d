import errno

import pytest

from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage import retry
from vidgn.data.storage.retry import retried


def failing(*errors: Exception):
    left = list(errors)

    def read() -> str:
        if left:
            raise left.pop(0)
        return "read"

    return read


def test_an_error_that_passes_is_tried_again_with_growing_pauses():
    pauses: list[float] = []
    stale = OSError(errno.ESTALE, "stale")
    assert retried(failing(OSError(errno.EIO, "io"), stale, stale), pause=pauses.append) == "read"
    assert pauses == [0.5, 1.0, 2.0]


def test_the_fourth_failure_is_raised_and_called_no_bad_video():
    pauses: list[float] = []
    with pytest.raises(OSError, match="io") as caught:
        retried(failing(*[OSError(errno.EIO, "io") for _ in range(9)]), pause=pauses.append)
    assert pauses == [0.5, 1.0, 2.0]
    assert caught.value.__notes__ == ["tried 4 times; this is an input/output error, not an unreadable video"]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "x"),
        PermissionError(errno.EACCES, "x"),
        OSError(errno.EMFILE, "x"),
        OSError("x"),
        VideoDecodeError("x", "cut"),
    ],
)
def test_what_would_fail_again_is_not_tried_again(error):
    pauses: list[float] = []
    with pytest.raises(type(error), match="x"):
        retried(failing(error), pause=pauses.append)
    assert pauses == []


def test_each_error_that_may_pass_is_told():
    told: list[int] = []
    with pytest.raises(OSError, match="io"):
        retried(
            failing(*[OSError(errno.EIO, "io") for _ in range(4)]),
            pause=lambda seconds: None,
            on_failure=lambda: told.append(1),
        )
    assert len(told) == 4
    with pytest.raises(FileNotFoundError, match="x"):
        retried(failing(FileNotFoundError(errno.ENOENT, "x")), on_failure=lambda: told.append(1))
    assert len(told) == 4


def test_the_caller_may_say_which_errors_pass():
    pauses: list[float] = []
    busy = [KeyError("busy"), KeyError("busy")]
    assert retried(failing(*busy), is_transient=lambda error: "busy" in str(error), pause=pauses.append) == "read"
    assert pauses == [0.5, 1.0]
    with pytest.raises(OSError, match="io"):
        retried(failing(OSError(errno.EIO, "io")), is_transient=lambda error: False, pause=pauses.append)
    assert pauses == [0.5, 1.0]


def test_without_a_pause_of_the_caller_the_module_waits(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    assert retried(failing(TimeoutError(errno.ETIMEDOUT, "slow"))) == "read"
