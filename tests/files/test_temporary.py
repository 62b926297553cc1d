import os
import signal
import subprocess
import sys
import threading

import pytest

from vidgn.files.temporary import temporary_folder

SCRIPT = """
import os, signal
from vidgn.files.temporary import temporary_folder
signal.signal(signal.SIGINT, signal.default_int_handler)
with temporary_folder() as folder:
    (folder / "upload.mp4").write_bytes(b"x")
    print(folder, flush=True)
    signal.pause()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_leaves_no_folder(tmp_path, number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith(str(tmp_path))
    process.send_signal(number)
    assert process.wait() == status
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_no_folder_and_the_signal_as_it_was(request):
    earlier = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what another test left there is put back
    request.addfinalizer(lambda: signal.signal(signal.SIGTERM, earlier))
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def fail():
        with temporary_folder() as folder:
            seen.append((folder, signal.getsignal(signal.SIGTERM)))
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    ((folder, during),) = seen
    assert during is not before
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_another_thread_has_its_folder_too():
    seen = []

    def work():
        with temporary_folder() as folder:
            seen.append(folder.is_dir())
        seen.append(folder.exists())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, False]
