"""A user whom the system does not know, without a home; a locale that is not UTF-8: whole runs, really made so."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "train.py").is_file())
STRANGER = "54321"  # an uid that no system gives away
PLAIN = {name: os.environ[name] for name in ("PATH",)} | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
pytestmark = pytest.mark.slow


def call(*words, env, cwd):
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False, encoding="utf-8")


@pytest.fixture
def shared():
    """A folder that every user may write to, at a path that every user may pass."""
    folder = Path(tempfile.mkdtemp(prefix="vidgn-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def as_stranger(shared):
    """Return the words that run a command as an unknown user, who may read what root may, and write as anybody."""
    caps = "-all,+dac_read_search"
    words = ["setpriv", "--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "--inh-caps", caps,
             "--ambient-caps", caps]  # fmt: skip
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to become another user")
    probe = call(*words, sys.executable, "-c", f"import os; os.mkdir({str(shared / 'probe')!r})", env=PLAIN, cwd=ROOT)
    if probe.returncode:
        pytest.skip(f"this machine lets nobody become another user: {probe.stderr.strip()[-200:]}")
    return words


def test_an_unknown_user_without_a_home_trains_or_is_told_what_to_set(as_stranger, shared, tiny):
    train = (*as_stranger, sys.executable, str(ROOT / "train.py"), *tiny, "test=false", "trainer.max_steps=1")
    shared.chmod(0o755)
    refused = call(*train, env=PLAIN, cwd=shared)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: the run folder runs cannot be made: {shared} is not writable for this user; set hydra.run.dir=DIR.\n"
    )
    shared.chmod(0o777)
    homeless = call(*train, env=PLAIN, cwd=shared)
    assert homeless.returncode == 2
    assert "error: this user has no home folder for data sets; set VIDGN_CACHE=DIR\n" in homeless.stderr
    assert "Traceback" not in homeless.stderr
    run = f"hydra.run.dir={shared}/run"
    trained = call(*train, run, env={**PLAIN, "VIDGN_CACHE": f"{shared}/cache"}, cwd=shared)
    assert trained.returncode == 0, trained.stderr
    assert (shared / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.fixture(scope="module")
def latin(tmp_path_factory):
    """The environment of a user whose locale is ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("needs localedef, to make a locale")
    name = "en_US.ISO-8859-1"
    made = call("localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / name), env=dict(os.environ), cwd=folder)
    if not (folder / name).is_dir():
        pytest.skip(f"localedef cannot make {name}: {made.stderr.strip()[-200:]}")
    env = {key: value for key, value in os.environ.items() if key not in ("LANG", "PYTHONUTF8")}
    env |= {"LOCPATH": str(folder), "LC_ALL": name, "PYTHONPATH": str(ROOT)}
    probe = call(sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())", env=env, cwd=folder)
    if probe.stdout.strip() != "iso8859-1":
        pytest.skip(f"Python takes {probe.stdout.strip()} in this locale")
    return env


def test_a_run_in_a_latin_locale_has_names_beyond_ascii(latin, tmp_path, tiny):
    folder = tmp_path / "Vid\u00e9os"
    folder.mkdir()
    words = [*tiny, "test=false", "trainer.max_steps=1", f"hydra.run.dir={folder}/run"]
    trained = call(sys.executable, "train.py", *words, env=latin, cwd=ROOT)
    assert trained.returncode == 0, trained.stderr
    assert f"default_root_dir: {folder}/run" in (folder / "run" / "config.yaml").read_text(encoding="utf-8")
    report = call(sys.executable, "-m", "vidgn", "report", "run", "--out", "page", env=latin, cwd=folder)
    assert report.returncode == 0, report.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["page", "run"]
    page = (folder / "page" / "index.html").read_text(encoding="utf-8")
    assert "train.py" not in report.stderr
    assert "run: GN" in page


@pytest.mark.parametrize(
    "words",
    [
        ("train.py", "data=folder", "data.root=Vid\u00e9os"),
        ("-m", "vidgn", "scan", "Vid\u00e9os"),
        ("-m", "vidgn", "scan", "."),
    ],
    ids=["train", "scan", "a name below"],
)
def test_names_in_a_locale_of_ascii_are_one_sentence(tmp_path, words):
    (tmp_path / "Vid\u00e9os").mkdir()
    (tmp_path / "Vid\u00e9os" / "1.mp4").touch()
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    script = [str(ROOT / words[0])] if words[0] == "train.py" else [words[0]]
    done = call(sys.executable, *script, *words[1:], env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "PYTHONUTF8=1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
