"""One job over many items: in this process, in processes of this machine, or on the machines of a Ray cluster."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from importlib import import_module
from itertools import islice
from typing import Any, Literal, TypeVar

from vidgn.data.faults.pools import process_pool

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Literal["local", "ray"]

_AHEAD = 4  # jobs handed out per worker: none waits for work, and a million items make no million futures


def spread(
    job: Callable[[Item], Result], items: Iterable[Item], *, workers: int, engine: Engine = "local"
) -> Iterator[Result]:
    """Yield the result of every item as it comes, in any order.

    Args:
        job: a function or partial of a module, since it travels to other processes.
        items: small, for the same reason.
        workers: processes; 1 is this one. With Ray: jobs at a time, 0 for one per core of the cluster.
        engine: `ray` joins the cluster of RAY_ADDRESS, or starts one on this machine.

    Raises:
        ValueError: workers or engine is out of range.
        ImportError: ray is not installed.
    """
    if engine not in ("local", "ray"):
        raise ValueError(f"engine ({engine}) must be local or ray.")
    if workers < (1 if engine == "local" else 0):
        raise ValueError(f"workers ({workers}) must be at least 1.")
    if engine == "ray":
        return _on_ray(job, iter(items), workers)
    return map(job, items) if workers == 1 else _in_processes(job, iter(items), workers)


def _in_processes(job: Callable[[Item], Result], items: Iterator[Item], workers: int) -> Iterator[Result]:
    with process_pool(workers) as pool:
        under_way: set[Future[Result]] = {pool.submit(job, item) for item in islice(items, _AHEAD * workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            under_way |= {pool.submit(job, item) for item in islice(items, len(done))}


def _on_ray(job: Callable[[Item], Result], items: Iterator[Item], workers: int) -> Iterator[Result]:
    try:
        ray: Any = import_module("ray")
    except ImportError as err:
        raise ImportError(
            "--engine ray needs the package ray; pip install 'vidgn[ray]', or leave --engine out."
        ) from err
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False)
    try:
        call = ray.remote(_call)
        at_once = _AHEAD * (workers or int(ray.cluster_resources().get("CPU", 1)))
        under_way = [call.remote(job, item) for item in islice(items, at_once)]
        while under_way:
            done, under_way = ray.wait(under_way)
            yield from ray.get(done)
            under_way += [call.remote(job, item) for item in islice(items, len(done))]
    finally:
        if ours:
            ray.shutdown()


def _call(job: Callable[[Item], Result], item: Item) -> Result:
    return job(item)
