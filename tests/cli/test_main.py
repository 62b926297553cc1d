import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from vidgn.cli.main import app, main

COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(vidgn, command):
    status, out, _ = vidgn(command, "--help")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert status == 0
    assert f"Example: vidgn {command}" in " ".join(plain.split())
    if command not in ("serve", "train", "eval"):  # serve prints an address and stays, the jobs write metrics.json
        assert "--json" in plain


def test_help_names_every_command(vidgn):
    status, out, _ = vidgn("--help")
    assert status == 0
    assert [name for name in COMMANDS if name not in out] == []


def test_importing_the_command_line_imports_no_torch():
    script = "import sys, vidgn.cli.main; print('lightning' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_python_dash_m_is_the_command():
    words = [sys.executable, "-m", "vidgn", "predict", "/nowhere.mp4", "--ckpt", "/nowhere.ckpt"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert done.stderr == "error: /nowhere.mp4 does not exist; give a video file or a folder of videos.\n"
    assert done.stdout == ""


def test_the_end_at_once_still_runs_exit_handlers_and_keeps_what_was_printed(tmp_path):
    """Also where a thread goes on, which the interpreter's own end waits for."""
    script = (
        "import atexit, sys, threading; from vidgn.cli import main as cli; handle = open(sys.argv[1], 'w')\n"
        "atexit.register(handle.close); handle.write('kept')\n"
        "cli.main = lambda: (print('printed', end=''), sys.exit(3))\n"
        "if sys.argv[2] == 'thread': threading.Timer(0.2, lambda: print(' and waited for', end='')).start()\n"
        "cli.run()"
    )
    for name, printed in (("alone", "printed"), ("thread", "printed and waited for")):
        words = [sys.executable, "-c", script, str(tmp_path / name), name]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert (done.returncode, done.stdout, done.stderr) == (3, printed, "")
        assert (tmp_path / name).read_text() == "kept"


def test_an_unknown_command_or_option_is_status_2(vidgn):
    for words, said in [(["predikt"], "predikt"), (["predict", "a.mp4", "--chkpt", "x"], "--chkpt")]:
        status, _, err = vidgn(*words)
        assert status == 2
        assert said in err


def test_the_traceback_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("VIDGN_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4 does not exist"):
        main(["predict", "/nowhere.mp4", "--ckpt", "/nowhere.ckpt"])


@pytest.fixture
def mistakes(tmp_path):
    """Files a newcomer hands over by mistake."""
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "picture.mp4").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"\0" * 100)
    (tmp_path / "text.ckpt").write_text("no weights")
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        # a wrong path, with and without its folder
        (["F/gone.mp4", "--ckpt", "C"], "F/gone.mp4 does not exist; give a video file or a folder of videos."),
        (["F/gone/a.mp4", "--ckpt", "C"], "the folder F/gone does not exist either"),
        # a picture instead of a video
        (["F/picture.jpg", "--ckpt", "C"], "F/picture.jpg is a picture; only a video shows motion"),
        # an address of a kind that is not fetched
        (["ftp://x.org/a.mp4", "--ckpt", "C"], "ftp://x.org/a.mp4 cannot be fetched; use http:// or"),
        # a folder without videos
        (["F/empty", "--ckpt", "C"], "folder F/empty holds no video; files that end in .mp4"),
        # nothing at all
        (["--ckpt", "C"], "no video was given; give one or more files or folders."),
        # video and checkpoint in the wrong order
        (["C", "--ckpt", "F/clip.mp4"], "is a checkpoint, not a video; give it as --ckpt"),
        (["F/clip.mp4", "--ckpt", "F/picture.mp4"], "is a video; give the checkpoint after --ckpt"),
        # a wrong checkpoint: none, no checkpoint, a folder without one
        (["F/clip.mp4", "--ckpt", "F/gone.ckpt"], "F/gone.ckpt does not exist"),
        (["F/clip.mp4", "--ckpt", "F/text.ckpt"], "is not a whole checkpoint"),
        (["F/clip.mp4", "--ckpt", "F/empty"], "F/empty is a folder without checkpoints/best.ckpt"),
        # a device that is not there
        (["F/clip.mp4", "--ckpt", "C", "--device", "gpu"], "--device gpu is not on this machine; use auto or"),
        # numbers out of range, options that contradict
        (["F/clip.mp4", "--ckpt", "C", "--top", "0"], "--top (0) must be at least 1 class."),
        (["F/clip.mp4", "--ckpt", "C", "--num-crops", "2"], "num_crops (2) must be 3, 1 or full."),
        (["F/clip.mp4", "--ckpt", "C", "--json", "--csv"], "--json and --csv are both given; choose one."),
        (["F/clip.mp4", "--ckpt", "C", "--stride", "8"], "--stride belongs to --timeline"),
        (["F/clip.mp4", "--ckpt", "C", "--timeline", "--num-clips", "8"], "do not apply to --timeline"),
        (["F", "--ckpt", "C", "--overlay", "o.mp4"], "--overlay writes one video, but 2 were given; give one."),
        # a camera that is not there, and options that do not go with one
        (["--camera", "77", "--ckpt", "C"], "--camera 77 needs /dev/video77, which is not there; "),
        (["F/clip.mp4", "--camera", "0", "--ckpt", "C"], "--camera takes --ckpt, --top, --seconds, --device and"),
        (["F/clip.mp4", "--seconds", "3", "--ckpt", "C"], "--seconds belongs to --camera; add --camera 0 or"),
        (["--camera", "0", "--seconds", "0", "--ckpt", "C"], "--seconds (0.0) must be above 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_helpful_sentence(vidgn, trained, mistakes, words, said):
    ckpt = str(trained / "checkpoints" / "best.ckpt")
    given = [ckpt if word == "C" else re.sub("^F", str(mistakes), word) for word in words]
    status, _, err = vidgn("predict", *given)
    assert status == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said.replace("F/", f"{mistakes}/") in err
