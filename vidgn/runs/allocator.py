"""Memory that a process keeps for its next tensors, where computing on a CPU would allocate it for each.

glibc gives freed blocks of more than 32 MB back to the system at once, and the end of its heap as soon as that is long
enough (mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD). A net frees activations at every layer, so nearly every page
of them is new: the system clears it and puts it in place, which may take half of the time of a clip of 64 frames
(benchmarks/net.md). The allocators that PyTorch's tuning guide names, jemalloc and tcmalloc, keep memory as this does.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_KEEP = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))  # no block of its own mapping; 2 GiB free at the end
# What glibc arrives at by itself once a large block was freed (DEFAULT_MMAP_THRESHOLD_MAX, and twice that).
_GIVE_BACK = ((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 64 << 20))


def keep_memory() -> bool:
    """Let this process, and those it forks, keep the memory they free; return whether the system's allocator can.

    The most in use grows by gaps between blocks: by 0 to 13 % for I3D (benchmarks/net.md). Only glibc can be asked.
    """
    return _ask(_KEEP)


def give_back_memory() -> bool:
    """Undo `keep_memory`, and give back what is free now; return whether the system's allocator can."""
    if not _ask(_GIVE_BACK):
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True


def _ask(settings: tuple[tuple[int, int], ...]) -> bool:
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(name, value) == 1 for name, value in settings)
