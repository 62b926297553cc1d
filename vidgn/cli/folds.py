"""What a sweep over `data.fold` prints at its end."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vidgn.report.folds import read_fold_runs, summarize_folds
from vidgn.terminal.escape import escaped


class PrintFolds(Callback):
    """Print the summary of the folds at the end of a sweep over `data.fold`. Named in configs/train.yaml."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Read the run folders of the sweep."""
        folder = Path(str(config.hydra.sweep.dir))
        for summary in summarize_folds(read_fold_runs(folder)):
            print(f"\n{summary.text}\n{folder.absolute()}", file=escaped(sys.stdout), flush=True)
