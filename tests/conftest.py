"""What every test may use: the two commands in this process, a tiny run, folders of real videos."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

# Before torch is imported: two test processes with a thread for every core each would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder with `clips/`, `odd/` and `broken/`: real files nobody here wrote."""
    folder = os.environ.get("VIDGN_TEST_VIDEOS")
    if not folder:
        pytest.skip("VIDGN_TEST_VIDEOS is not set: tests on real video files are skipped")
    path = Path(folder)
    assert (path / "clips").is_dir(), f"VIDGN_TEST_VIDEOS={folder} has no folder clips/"
    return path


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def run_command(name: str, words: list[str], capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> Outcome:
    from vidgn.detection.dispatch import evaluate_task, train_task
    from vidgn.runs.command_line import command

    patch.setattr(sys, "argv", [f"{name}.py", *words])
    capture.readouterr()
    for logger in ("lightning.pytorch", "lightning.fabric", "lightning"):
        for handler in logging.getLogger(logger).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.stream = sys.stderr  # it still holds the closed stream of the test that made it
    handlers = list(logging.getLogger().handlers)
    status = 0
    try:
        command(name)({"train": train_task, "eval": evaluate_task}[name])()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        for handler in set(logging.getLogger().handlers) - set(handlers):  # Hydra adds its own
            logging.getLogger().removeHandler(handler)
            handler.close()
    out, err = capture.readouterr()
    return Outcome(status, out, err)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run `train` or `eval` with words."""
    return lambda name, *words: run_command(name, list(words), capsys, monkeypatch)


TINY = (
    "data.train=2", "data.val=1", "data.test=1", "data.num_workers=0", "epochs=1", "num_clips=2", "model.width=8",
    "crop=32", "clip_len=8", "span=16", "val_clips=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Words that make the motions job a matter of seconds."""
    return TINY


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for the session's own motions."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDGN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def motions(trained: Path, cache: Path) -> Path:
    """The videos of that run; other tests keep others in the same cache."""
    from vidgn.data.synthetic.motions import MotionsSpec

    return cache / MotionsSpec(train=2, val=1, test=1).folder_name


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The run folder of a tiny training run."""
    folder = tmp_path_factory.mktemp("trained")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(root / "train.py"), *TINY, "log.percentiles=res5", f"hydra.run.dir={folder}"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def vidgn(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `vidgn ARGUMENTS` in this process; return (exit status, stdout, stderr)."""
    from vidgn.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit, match=r"^\d+$") as stop:
            main([str(argument) for argument in arguments])
        return int(stop.value.code or 0), *capsys.readouterr()

    return run
