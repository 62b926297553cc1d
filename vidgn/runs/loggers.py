"""The curves of a run, as `metrics.csv` and for TensorBoard, which can go back to the place of a checkpoint."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from vidgn.lightning_internals import as_hparams, reopen_events

FLUSH = 100  # rows in memory at most


class History(Logger):
    """Write every logged row to `metrics.csv`; after a resume the file is that of a run never stopped.

    Lightning's CSVLogger removes the rows of the run before it (lightning/fabric/loggers/csv_logs.py,
    _check_log_dir_exists).

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = []
        self._on_disk = 0  # rows
        self._is_whole = False  # the file holds these rows and no others
        self._waiting: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Return no name: the file lies in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Return no version, for the same reason."""
        return ""

    @property
    def save_dir(self) -> str:
        """Return the run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add a row."""
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._waiting.append({**row, "step": step})
        if len(self._waiting) >= FLUSH:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the waiting rows; the file is written again where a column is."""
        if not self._waiting:
            return
        columns = sorted({*self._columns, *(name for row in self._waiting for name in row)})
        with said(self.path):
            if columns != self._columns or not self._is_whole:
                self._rewrite(columns, rows=self._on_disk)
            self._is_whole = False  # should this fail, the file is written again next time
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerows(self._waiting)
                file.flush()
                os.fsync(file.fileno())
        self._is_whole = True
        self._on_disk += len(self._waiting)
        self._waiting = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the waiting rows."""
        self.save()

    def place(self) -> dict[str, Any]:
        """Return how much has been logged, all of it on disk."""
        self.save()
        return {"rows": self._on_disk, "columns": list(self._columns)}

    def go_back(self, place: dict[str, Any]) -> None:
        """Forget what was logged after `place`."""
        self._waiting = []
        self._rewrite(list(place["columns"]), rows=place["rows"])
        self._on_disk, self._is_whole = place["rows"], True

    def _rewrite(self, columns: list[str], *, rows: int) -> None:
        """Write the first rows of the file again, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self._read(rows))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)
        self._columns = columns

    def _read(self, rows: int) -> Iterator[dict[str, str]]:
        if rows and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                yield from islice(csv.DictReader(file), rows)


@contextmanager
def said(path: Path) -> Iterator[None]:
    """Say which curves could not be written: the system's error names no file, TensorBoard's logger hides it.

    Raises:
        OSError: they could not be.
    """
    try:
        yield
    except (OSError, ValueError) as err:
        cause = err if isinstance(err, OSError) else err.__cause__
        if not isinstance(cause, OSError):
            raise
        raise OSError(
            f"{path} could not be written ({cause.strerror or cause}); free space, then run the same command again: it "
            "resumes from the last checkpoint"
        ) from err


@rank_zero_only
def log_config(
    loggers: Sequence[Logger], config: Mapping[str, Any], *, metrics: Mapping[str, float] | None = None
) -> None:
    """Give loggers the resolved configuration of a run, and at its end the numbers of the test.

    TensorBoard shows both together (its HPARAMS page), so it gets them once, at the end.

    Args:
        loggers: of the trainer.
        config: plain containers and values.
        metrics: of the test; None at the start of a run.
    """
    for log in loggers:
        if isinstance(log, Events):
            if metrics is not None:
                log.log_job(config, metrics)
        elif not isinstance(log, History):
            log.log_hyperparams(dict(config))
            if metrics is not None:
                log.log_metrics(dict(metrics))


class Events(TensorBoardLogger):
    """TensorBoard's files, `tensorboard/` of the run folder; after a resume they show a run never stopped.

    TensorBoard's own way, `purge_step`, forgets by step: what is logged after a validation was saved would be there
    twice, and what a killed process had not flushed not at all.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        # A run that starts again in its folder hides what an earlier one logged there.
        super().__init__(folder, name="", version="tensorboard", purge_step=0)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add points; TensorBoard's thread reports a full disk at a later one."""
        with said(Path(self.log_dir)):
            super().log_metrics(metrics, step)

    def log_job(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write what the HPARAMS page shows: the configuration, and the names of the curves with the results.

        Lightning's `log_hyperparams` would draw the results a second time, at step 0.
        """
        from torch.utils.tensorboard.summary import hparams

        options = as_hparams(config)
        with said(Path(self.log_dir)):
            writer = self.experiment._get_file_writer()
            for summary in hparams(options, dict(metrics)):  # type: ignore[no-untyped-call]
                writer.add_summary(summary)
            self.experiment.flush()

    def place(self) -> dict[str, Any]:
        """Return the sizes of the files (bytes), all that was logged in them."""
        with said(Path(self.log_dir)):
            self.experiment.flush()
        return {path.name: path.stat().st_size for path in self._files()}

    def go_back(self, place: dict[str, Any]) -> None:
        """Cut the files to the sizes of `place`, and remove later ones."""
        self.finalize("going back")
        reopen_events(self)
        for path in self._files():
            if path.name not in place:
                path.unlink()
            elif path.stat().st_size > place[path.name]:
                os.truncate(path, place[path.name])

    def _files(self) -> list[Path]:
        return sorted(Path(self.log_dir).glob("events.out.tfevents.*"))
