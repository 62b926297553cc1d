"""Values of overrides: paths need no quotes, and a value of another type is one sentence."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vidgn.runs.command_line import check_complete, check_words
from vidgn.runs.trainer import check_devices
from vidgn.terminal.overrides import check_type, quote_paths

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "path",
    [
        "epoch=3.ckpt", "/my videos/run (1)", "/a [1], (2)", "/\u0432\u0438\u0434\u0435\u043e/caf\u00e9", "1e3", "2024",
        "~/videos", "C:\\videos\\", "\\\\server\\share", "it's", "a\\'b", "x,y", "true", "{a}", "$x", "100%", "@home",
        "a:b", "*.mp4", " lead",
    ],
)  # fmt: skip
def test_a_path_needs_no_quotes(path):
    for name in ("ckpt", "init", "data.root", "data.train", "classes"):
        if (name, path) == ("data.train", "2024"):
            continue  # a number of videos
        (text,) = quote_paths([f"{name}={path}"])
        assert OverridesParser.create().parse_override(text).value() == path


def test_what_is_no_path_and_what_is_quoted_already_stays():
    words = ["data.train=120", "init=null", "resume=auto", "clip_len=[1,2]", "ckpt='a b'"]
    words += ["hydra.run.dir=runs/${now:%H}"]
    assert quote_paths(words) == words
    assert quote_paths(["-m", "init=a.ckpt,b.ckpt"]) == ["-m", "init=a.ckpt,b.ckpt"]
    assert quote_paths(["hydra.run.dir=~/a b"]) == [f"hydra.run.dir='{Path.home()}/a b'"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["batch=eight"], r"batch=eight must be a whole number, such as batch=\d+"),
        (["epochs=1.5"], r"epochs=1\.5 must be a whole number"),
        (["label_smoothing=high"], r"label_smoothing=high must be a number"),
        (["strict=yes"], r"strict=yes must be true or false, such as strict=true"),
        (["save_every_minutes=often"], r"save_every_minutes=often must be a number"),
        (["lr=0.001"], r"'lr'.* did you mean 'optim\.lr'\?"),
        (["width=8"], r"'width'.* did you mean 'model\.width'\?"),
        (["data=folder"], r"data\.root must be given; set data\.root=VALUE"),
        (["data=kinetics400"], r"data\.root must be given"),
    ],
)
def test_a_wrong_value_is_one_sentence_before_anything_runs(words, message):
    with pytest.raises(ValueError, match=message):
        check("train", words)


def check(name, words):
    check_complete(check_words(name, words))


@pytest.mark.slow
def test_what_is_right_passes():
    check("train", ["save_every_minutes=0.5", "data.deadline_seconds=1.5", "num_crops=full", "optim.lr=1"])
    check("train", ["trainer=dry", "data=folder"])  # makes its own videos
    check("train", ["trainer.fast_dev_run=3", "precise_bn=200", "save_every_minutes=null"])
    check_type("batch", None, 8)


def test_a_machine_without_a_gpu_says_so(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    for name in ("gpu", "cuda", "tpu"):
        with pytest.raises(ValueError, match=rf"trainer\.accelerator={name} is not on this machine"):
            check_devices(SimpleNamespace(accelerator=name, devices="auto"))
    check_devices(SimpleNamespace(accelerator="auto", devices=2))
    assert capsys.readouterr().out == ""
    check_devices(SimpleNamespace(accelerator="cpu", devices=8))
    assert "trainer.devices=8 starts 8 processes on 2 cores" in capsys.readouterr().out


@pytest.mark.parametrize(("script", "words"), [("train.py", ["clp_len=3"]), ("eval.py", ["ckpt=x", "clp_len=3"])])
def test_a_typo_is_answered_without_torch(script, words):
    program = (
        "import sys, runpy\n"
        f"sys.argv = [{script!r}, *{words!r}]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n    print(stop.code, 'lightning' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False", "False"], done.stderr
    assert "did you mean 'clip_len'?" in done.stderr
