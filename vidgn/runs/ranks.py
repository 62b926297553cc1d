"""Several processes of one run: which strategies there are, how long they wait for each other, and who failed first."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies import Strategy

from vidgn.lightning_internals import set_rank_timeout
from vidgn.runs.fsdp import Sharded

PATIENCE = 3.0  # seconds that a rank gives another one to say why it failed


class RankLostError(ConnectionError):
    """Another process of the run is gone or does not answer."""


def find_strategy(name: str) -> str | Strategy:
    """Return what Lightning's Trainer takes for the option `trainer.strategy`; `fsdp` is `vidgn.runs.fsdp`.

    Raises:
        ValueError: neither `auto`, a single device, a kind of ddp nor fsdp.
    """
    if not re.fullmatch(r"auto|single_device|ddp(_\w+)?|fsdp", name):
        raise ValueError(
            f"trainer.strategy ({name}) must be auto, ddp, fsdp or single_device: checkpoints are whole nets in one "
            "file; use ddp, or fsdp, which shares the weights out."
        )
    return Sharded() if name == "fsdp" else name


def limit_waiting(trainer: L.Trainer, *, minutes: float) -> None:
    """Let processes wait for each other no longer than `minutes`; torch's own limit is 30.

    Raises:
        ValueError: `minutes` is not positive.
    """
    if not minutes > 0:
        raise ValueError(f"rank_timeout_minutes ({minutes}) must be above 0; 10 covers a slow validation.")
    set_rank_timeout(trainer, minutes=minutes)


@contextmanager
def tell_who_failed(folder: Path) -> Iterator[None]:
    """Turn a lost connection into a sentence that names the rank that failed first, and leave our own failure there.

    Raises:
        RankLostError: another process is gone; the collective that noticed is its cause.
    """
    try:
        yield
    except Exception as err:
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            raise
        rank, world = dist.get_rank(), dist.get_world_size()
        if not _is_lost(err):
            with suppress(OSError):  # a full disk may be the very fault
                (folder / f"failed.rank{rank}.txt").write_text(f"{_first_line(err)}\n", encoding="utf-8")
            raise
        raise RankLostError(
            f"rank {rank} of {world} lost another process of this run ({_first_line(err)}); {_who(folder, rank)}. "
            "The last checkpoint stands: run the same command again"
        ) from err


def forget_failures(folder: Path) -> None:
    """Remove what ranks of an earlier start left."""
    for path in folder.glob("failed.rank*.txt"):
        if re.fullmatch(r"failed\.rank\d+\.txt", path.name):
            path.unlink()


def _who(folder: Path, rank: int) -> str:
    latest = time.monotonic() + PATIENCE
    while True:
        for path in sorted(folder.glob("failed.rank*.txt")):
            number, message = path.name.split(".")[1].removeprefix("rank"), path.read_text("utf-8").strip()
            if int(number) != rank and message:
                return f"rank {number} failed first: {message}"
        if time.monotonic() > latest:
            return "none said why, so it was killed, perhaps for memory, or does not answer; see its own output"
        time.sleep(0.05)


def _is_lost(err: Exception) -> bool:
    """Tell the errors of a broken or late collective, which torch raises as plain RuntimeErrors."""
    return isinstance(err, dist.DistError) or (isinstance(err, RuntimeError) and bool(_LOST.search(str(err))))


def _first_line(err: Exception) -> str:
    first = str(err).strip().partition("\n")[0]
    return f"{type(err).__name__}: {first[:300] or 'no message'}"


_LOST = re.compile(r"gloo|NCCL|ProcessGroup|[Cc]onnection (closed|reset|refused)|Broken pipe|Timed out waiting")
