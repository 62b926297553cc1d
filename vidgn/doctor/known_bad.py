"""Sets of versions that are known to be bad, each with its public report."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class KnownBad(NamedTuple):
    """One bad set that is installed: its name, whether it is unusable or merely slow, why, and what to do."""

    name: str
    broken: bool
    why: str
    advice: str


def known_bad(versions: Mapping[str, str], *, cudnn: int | None) -> list[KnownBad]:
    """Return the bad sets among installed versions.

    Args:
        versions: by package, with `python`; packages that are not installed may be absent.
        cudnn: as torch gives it (91500 is 9.15.0); None without a GPU.
    """
    bad = [*_compromised(versions), *_hydra(versions), *_torchcodec(versions), *_old_torch(versions)]
    return bad + (_cudnn(versions, cudnn) if cudnn is not None else [])


def _compromised(versions: Mapping[str, str]) -> list[KnownBad]:
    return [
        KnownBad(
            f"{name} {versions[name]}", True, "this release on PyPI was malicious (GHSA-w37p-236h-pfx3)",
            f"pip uninstall {name}, change every secret this machine holds, then pip install '{name}!=2.6.2,!=2.6.3'",
        )
        for name in ("lightning", "pytorch-lightning")
        if versions.get(name) in ("2.6.2", "2.6.3")
    ]  # fmt: skip


def _hydra(versions: Mapping[str, str]) -> list[KnownBad]:
    """Find hydra-core before 1.3.5 on Python 3.14 (facebookresearch/hydra#3121)."""
    hydra = versions.get("hydra-core", "")
    if _at_least(versions["python"], 3, 14) and hydra and not _at_least(hydra, 1, 3, 5):
        why = f"hydra-core {hydra} crashes on Python 3.14 (facebookresearch/hydra#3121)"
        return [KnownBad("hydra-core on Python 3.14", True, why, "pip install 'hydra-core>=1.3.5'")]
    return []


def _torchcodec(versions: Mapping[str, str]) -> list[KnownBad]:
    """Find torchcodec 0.11 or newer beside torch older than 2.11; before, each release fits one torch."""
    codec, torch = versions.get("torchcodec", ""), versions.get("torch", "")
    if codec and _at_least(codec, 0, 11) and not _at_least(torch, 2, 11):
        why = f"torchcodec {codec} needs torch 2.11 or newer, here is {torch} (meta-pytorch/torchcodec#912)"
        return [KnownBad("torchcodec and torch", False, why, "pip uninstall torchcodec, or a newer torch")]
    return []


def _old_torch(versions: Mapping[str, str]) -> list[KnownBad]:
    torch = versions.get("torch", "")
    if re.match(r"\d", torch) and not _at_least(torch, 2, 10):
        why = f"torch {torch} is older than 2.10, the first whose checkpoint reader is safe on foreign files"
        return [KnownBad("torch", True, why, "pip install 'torch>=2.10'")]
    return []


def _cudnn(versions: Mapping[str, str], cudnn: int) -> list[KnownBad]:
    """Find the cuDNN releases whose Conv3d in bfloat16 is wrong, slow or hungry for memory."""
    version = f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
    advice = "pip install 'torch>=2.10' (it brings cuDNN 9.15 or newer), or train in float32"
    if 90800 <= cudnn < 91100:
        why = f"cuDNN {version} computes wrong Conv3d results in bfloat16 (pytorch/pytorch#163539: 9.8 to 9.10)"
        return [KnownBad("cuDNN Conv3d bfloat16", True, why, advice)]
    if _at_least(versions.get("torch", ""), 2, 9) and cudnn < 91500:
        why = f"cuDNN {version} under torch 2.9 or newer: Conv3d up to 4x slower, 3x the memory in bfloat16"
        return [KnownBad("cuDNN Conv3d speed", False, f"{why} (pytorch/pytorch#166122, #166643)", advice)]
    return []


def _at_least(version: str, *wanted: int) -> bool:
    """Compare the leading numbers of a version; what has none is not at least anything.

    >>> _at_least("2.11.0+cu130", 2, 10), _at_least("2.9.1", 2, 10), _at_least("not installed", 1)
    (True, False, False)
    """
    parts = re.match(r"\d+(\.\d+)*", version)
    return parts is not None and [int(part) for part in parts[0].split(".")] >= list(wanted)
