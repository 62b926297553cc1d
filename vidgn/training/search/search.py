"""Run the trials of a search one after the other; a search that was interrupted continues where it was."""

import csv
import fcntl
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from vidgn.callbacks.early_stop import Monitor, monitor
from vidgn.callbacks.nonfinite import NonFiniteError
from vidgn.callbacks.pruning import Pruning
from vidgn.runs.command_line import check_complete, check_words
from vidgn.runs.config import RunConfig
from vidgn.runs.session import run_here
from vidgn.training.search.space import as_override, corner_trials, split_space
from vidgn.training.train import run_training

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

_STORAGE, _LOCK, _TABLE = "search.db", "search.lock", "trials.csv"
_OWN = ("hydra.run.dir", "resume", "overwrite", "test")  # options that the search sets
_STARTUP = 4  # trials that are never pruned: a median of fewer says little


class SearchJob(NamedTuple):
    """What a search does.

    Attributes:
        fixed: overrides that all trials have.
        space: what the others are drawn from.
        by: what trials are compared by.
        folder: of the search.
        prune: end trials that are worse than the median.
        seed: of the draws.
    """

    fixed: list[str]
    space: "Mapping[str, BaseDistribution]"
    by: Monitor
    folder: Path
    prune: bool
    seed: int


def run_search(
    words: Sequence[str], *, folder: str, trials: int, prune: bool, seed: int, out: TextIO, as_json: bool = False
) -> int:
    """Train until the search has so many trials, and print them and the best one; return 0.

    Nothing is tested, so that no option is chosen on test videos. Trials are compared by `best_by`, and are numbered
    from 0; a trial that ended in an infinite or undefined loss counts as one.

    Args:
        words: options of training, some of them with several values; see `vidgn.training.search.space`.
        folder: keeps the study (`search.db`, for Optuna's own tools), `trials.csv`, and a run folder for each trial.
        trials: of the search, with those that it has already.
        prune: end a trial whose validation is worse than the median of the earlier trials at that point.
        seed: of the draws, not of the runs.
        out: where to print.
        as_json: print one JSON object.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: an option is wrong, nothing varies, or the folder has another search.
        OSError: the folder cannot be written, has a foreign `trials.csv`, or another process searches in it.
    """
    try:
        import optuna
    except ImportError as err:
        raise ImportError("vidgn search needs Optuna; pip install 'vidgn[search]'") from err
    if trials < 1:
        raise ValueError(f"--trials ({trials}) must be at least 1; 20 is a start.")
    job = read_job(words, folder=Path(folder), prune=prune, seed=seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if (job.folder / _TABLE).exists() and not (job.folder / _STORAGE).exists():
        raise FileExistsError(
            f"{job.folder / _TABLE} was not written by a search; move the file, or give another --out."
        )
    with _only_one(job.folder):
        study = open_study(job, words)
        requeue_interrupted(study)
        while len(finished(study)) < trials:
            run_trial(study, job)
        write_table(study, job)
        _print(study, job, out, as_json=as_json)
    return 0


def read_job(words: Sequence[str], *, folder: Path, prune: bool, seed: int) -> SearchJob:
    """Return what the options ask for, after every value was checked as the command line of training checks it.

    Raises:
        ValueError: an option is wrong, is one that the search sets, or nothing varies.
    """
    typed = {word.partition("=")[0].lstrip("+") for word in words}
    for name in (name for name in (*_OWN, "-m", "--multirun") if name in typed):
        raise ValueError(f"{name} is set by the search; leave it out. Run folders are in --out, and nothing is tested.")
    fixed, space = split_space(words)
    if not space:
        raise ValueError(
            "no option has several values; give some, as in norm=gn,bn or 'optim.lr=tag(log,interval(0.001,0.3))'."
        )
    if "best_by" in space:
        raise ValueError("best_by compares the trials, so that it has one value in a search; give one.")
    defaults = {"best_by": "error", "trainer.devices": "1"}
    fixed += [f"{name}={value}" for name, value in defaults.items() if name not in typed] + ["test=false"]
    configs = [check_words("train", [*fixed, *trial]) for trial in corner_trials(space)]
    for config in configs:
        check_complete(config)
    (first, *_) = configs
    assert first is not None  # None only where help is asked
    if str(first.trainer.devices) != "1":
        raise ValueError(f"trainer.devices ({first.trainer.devices}) must be 1 in a search; leave it out.")
    return SearchJob(fixed, space, monitor(str(first.best_by)), folder, prune, seed)


def open_study(job: SearchJob, words: Sequence[str]) -> "Study":
    """Open the study of the folder, or create it.

    Raises:
        ValueError: the folder has a search with other options.
    """
    import optuna

    study = optuna.create_study(
        storage=f"sqlite:///{job.folder.absolute() / _STORAGE}",
        study_name="search",
        direction="maximize" if job.by.larger else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
        load_if_exists=True,
    )
    theirs = study.user_attrs.get("words")
    if theirs is None:
        study.set_user_attr("words", list(words))
    elif sorted(theirs) != sorted(words):
        raise ValueError(
            f"--out {job.folder} has a search with other options ({shlex.join(theirs)}); repeat these, or give another "
            "folder."
        )
    return study


def requeue_interrupted(study: "Study") -> None:
    """Let the next trials be those that an earlier process began and did not end, in the same run folders."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"folder": _folder_name(trial)})


def finished(study: "Study") -> list[Any]:
    """Return the trials that count: completed, pruned, or diverged; not those that were interrupted."""
    from optuna.trial import TrialState

    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    return [trial for trial in study.get_trials() if trial.state in ended or trial.user_attrs.get("diverged")]


def run_trial(study: "Study", job: SearchJob) -> None:
    """Draw a trial, train it, and record its best validation."""
    import optuna
    from optuna.trial import TrialState

    # A draw depends on the seed and on the trials so far, not on how often the search was interrupted.
    study.sampler = optuna.samplers.TPESampler(seed=job.seed + len(study.get_trials(deepcopy=False)))
    trial = study.ask(dict(job.space))
    watch = Pruning(job.by, lambda step, value: _report(trial, step, value, prune=job.prune))
    chosen = [as_override(name, trial.params[name]) for name in job.space]
    words = [*job.fixed, *chosen, f"hydra.run.dir={job.folder / _folder_name(trial)}"]
    print(f"trial {trial.number}: {' '.join(chosen)}", flush=True)
    try:
        run_here("train", words, lambda composed: run_training(RunConfig.read(composed), extra=(watch,)))
    except NonFiniteError as err:
        print(f"trial {trial.number} diverged: {err}", flush=True)
        trial.set_user_attr("diverged", True)
        study.tell(trial, state=TrialState.FAIL)
        return
    except Exception:
        study.tell(trial, state=TrialState.FAIL)
        raise
    if watch.pruned:
        study.tell(trial, state=TrialState.PRUNED)
        return
    if watch.best is None:
        study.tell(trial, state=TrialState.FAIL)
        raise ValueError(f"trial {trial.number} had no validation with a {job.by.metric}; give more epochs.")
    study.tell(trial, watch.best)


def write_table(study: "Study", job: SearchJob) -> None:
    """Write `trials.csv`: number, state, value and options of each trial."""
    with (job.folder / _TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", job.by.metric, *job.space, "folder"])
        for row in _rows(study):
            options = [row["options"].get(name, "") for name in job.space]
            writer.writerow([row["trial"], row["state"], row["value"], *options, row["folder"]])


def _report(trial: "Trial", step: int, value: float, *, prune: bool) -> bool:
    trial.report(value, step)
    return prune and trial.should_prune()


def _folder_name(trial: Any) -> str:
    return str(trial.user_attrs.get("folder", f"trial-{trial.number:03d}"))


def _rows(study: "Study") -> list[dict[str, Any]]:
    rows = []
    for trial in finished(study):
        options = {name: as_override(name, value).partition("=")[2] for name, value in trial.params.items()}
        state = "diverged" if trial.user_attrs.get("diverged") else trial.state.name.lower()
        value = None if state != "complete" else trial.value
        rows.append({"trial": trial.number, "state": state, "value": value, "options": options,
                     "folder": _folder_name(trial)})  # fmt: skip
    return rows


def _print(study: "Study", job: SearchJob, out: TextIO, *, as_json: bool) -> None:
    rows = _rows(study)
    complete = [row for row in rows if row["value"] is not None]
    best = None
    if complete:
        best = (max if job.by.larger else min)(complete, key=lambda row: row["value"])
    command = None
    if best is not None:
        fixed = [word for word in job.fixed if word not in ("test=false", "trainer.devices=1")]
        options = [f"{name}={value}" for name, value in best["options"].items()]
        command = shlex.join(["vidgn", "train", *fixed, *options])
    if as_json:
        print(json.dumps({"metric": job.by.metric, "trials": rows, "best": best, "command": command}), file=out)
        return
    for row in rows:
        value = "" if row["value"] is None else f"{row['value']:.4g}"
        drawn = " ".join(f"{name}={text}" for name, text in row["options"].items())
        print(f"{row['trial']:>4}  {row['state']:9} {value:>8}  {drawn}", file=out)
    if best is None:
        print(f"no trial of {len(rows)} completed; give more trials, or a narrower space", file=out)
        return
    print(f"best: trial {best['trial']} with {job.by.metric} {best['value']:.4g}, of {len(rows)} trials; train it with",
          f"  {command}", sep="\n", file=out)  # fmt: skip


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep other processes from the folder; processes that this one forks do not hold the lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise BlockingIOError(f"--out {folder} is in use by another search; give another folder.") from err
        yield
