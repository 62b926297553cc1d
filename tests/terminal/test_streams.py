"""A run goes on where nobody reads its output any more."""

import os
import signal
import subprocess
import sys

import pytest

from vidgn.terminal.streams import LastingStream

PROGRAM = """
import sys
from vidgn.terminal.streams import outlive_terminal
outlive_terminal()
for number in range(20000):
    print("line", number)
    print("line", number, file=sys.stderr)
sys.stdout.flush()
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.slow
def test_a_program_whose_reader_is_gone_goes_on_to_its_end(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "end")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
    assert (tmp_path / "end").read_text() == "done"


@pytest.mark.slow
def test_a_closed_terminal_does_not_end_it(tmp_path):
    program = f"import os, signal\nfrom vidgn.terminal.streams import outlive_terminal\noutlive_terminal()\n{KILL}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still here\n")


KILL = "os.kill(os.getpid(), signal.SIGHUP)\nprint('still here')"


def test_other_errors_are_raised():
    class Full:
        def write(self, text):
            raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match="No space left"):
        LastingStream(Full()).write("x")  # type: ignore[arg-type]
    assert signal.SIGHUP == 1
