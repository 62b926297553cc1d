"""Room for the batches that travel from workers to the main process: torch keeps them in /dev/shm."""

import errno
import shutil
from pathlib import Path

from torch import Tensor
from torch.utils.data import get_worker_info

FULL = (
    "/dev/shm is full: use fewer workers (data.num_workers=N) or a smaller batch, or make it larger "
    "(docker run --shm-size=8g, or mount -o remount,size=8g /dev/shm)"
)
PREFETCH = 2  # batches that each worker reads ahead, torch's default


def require_room(batch_bytes: int, *, num_workers: int, num_loaders: int = 1, folder: Path = Path("/dev/shm")) -> None:
    """Check before a run that all batches that are read ahead, and the one in use, fit into shared memory.

    Args:
        batch_bytes: Of one batch.
        num_workers: Of each loader; without any nothing is shared.
        num_loaders: That read at the same time.
        folder: Where the system keeps shared memory; nothing is checked where it does not exist.

    Raises:
        OSError: They do not fit; the message says how much there is and the ways out.
    """
    if not num_workers or not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    needed = num_loaders * (PREFETCH * num_workers + 1) * batch_bytes
    if needed <= free:
        return
    fit = max(0, (free // (num_loaders * batch_bytes) - 1) // PREFETCH)
    raise OSError(
        errno.ENOSPC,
        f"{num_workers} workers read ahead up to {_mb(needed)} of batches, but {folder} has {_mb(free)} free; set "
        f"data.num_workers={fit} or a smaller batch, or make it larger (docker run --shm-size=8g, or "
        f"mount -o remount,size=8g {folder})",
    )


def share(*tensors: Tensor) -> None:
    """Move the tensors of a batch into shared memory here and now, in a worker; nothing in the main process.

    Torch does so in a thread of its queue, where lack of room loses the batch and the error with it: the loop would
    wait for ever. Here it is an error of the batch.

    Raises:
        RuntimeError: There is no room; `vidgn.data.loading.workers.explain_failure` says what to do.
    """
    if get_worker_info() is not None:
        for tensor in tensors:
            tensor.share_memory_()  # type: ignore[no-untyped-call]


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
