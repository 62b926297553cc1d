"""What draws and measures beside a training run, as its options ask for it."""

from functools import partial
from pathlib import Path

import lightning as L
from torch import nn

from vidgn.callbacks.curves import Curves
from vidgn.callbacks.epoch_lines import EpochLines
from vidgn.callbacks.percentiles import Percentiles
from vidgn.callbacks.throughput import Bar, Pace
from vidgn.runs.config import RunConfig
from vidgn.runs.loggers import History


def watchers(config: RunConfig, *, net: nn.Module, folder: Path) -> list[L.Callback]:
    """Return the callbacks of the options `log` and `logger`: curves.png needs metrics.csv.

    Raises:
        ValueError: `log.percentiles` is not a layer of the net.
    """
    layer = config.log.percentiles
    callbacks: list[L.Callback] = [] if layer is None else [Percentiles(net, str(layer))]
    pace = Pace(folder / "pace.csv", but_not=(History,))
    callbacks += [EpochLines()]
    callbacks += [pace, Bar(pace)] if config.trainer.enable_progress_bar else [pace]
    if "csv" in config.logger.names:
        callbacks.append(Curves(partial(_draw, folder)))
    return callbacks


def _draw(folder: Path) -> None:
    from vidgn.report.curves import write_curves  # matplotlib takes a second, which a run does not wait for

    write_curves(folder)
