"""Whether a run on a CUDA GPU takes the Triton kernels or torch's own operations."""

from typing import Literal, NamedTuple

from vidgn.norms.kernels import operation
from vidgn.norms.kernels.record import gpu_name, machine_key, read_check


class KernelChoice(NamedTuple):
    """The choice and one line that explains it."""

    triton: bool
    reason: str


def choose_kernels(fuse: bool | Literal["auto"]) -> KernelChoice:
    """Choose the kernels of a run on the current CUDA GPU.

    `auto` takes the Triton kernels only where `vidgn doctor` has found them right and faster than torch's operations,
    on this GPU with these versions. `VIDGN_KERNELS` counts more than the record.

    >>> choose_kernels(False)
    KernelChoice(triton=False, reason="torch's own operations (fuse=false)")
    """
    if fuse is False:
        return KernelChoice(False, "torch's own operations (fuse=false)")
    if operation.MODE == "off" or not operation.HAS_TRITON:
        why = "VIDGN_KERNELS=off" if operation.MODE == "off" else "triton is not installed"
        return KernelChoice(False, f"torch's own operations ({why})")
    if fuse is True or operation.MODE == "on":
        why = "fuse=true" if fuse is True else "VIDGN_KERNELS=on"
        return KernelChoice(True, f"vidgn's Triton kernels ({why})")
    return _recorded_choice(gpu_name() or "unknown GPU")


def _recorded_choice(gpu: str) -> KernelChoice:
    check = read_check(machine_key(gpu))
    if check is None:
        why = f"vidgn's Triton kernels are not checked on this {gpu}; run `vidgn doctor`, or set fuse=true"
    elif not check.passed:
        why = f"vidgn's Triton kernels failed the check of `vidgn doctor` on this {gpu}: {check.detail}"
    elif not check.chooses_kernels:
        why = f"`vidgn doctor` measured vidgn's Triton kernels at {check.speedup:.2f}x of their speed on this {gpu}"
    else:
        measured = f"checked by `vidgn doctor`, {check.speedup:.2f}x as fast as torch's operations"
        return KernelChoice(True, f"vidgn's Triton kernels ({measured} on this {gpu})")
    return KernelChoice(False, f"torch's own operations ({why})")
