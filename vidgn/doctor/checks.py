"""Tell a newcomer what is wrong with a machine before it costs a day: `vidgn doctor`."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Literal, NamedTuple, TextIO

from rich.console import Console

from vidgn.doctor.known_bad import known_bad

Status = Literal["ok", "info", "warn", "broken"]
_COLOURS = {"ok": "green", "info": "blue", "warn": "yellow", "broken": "red"}


class Check(NamedTuple):
    """One finding: what was looked at, how it is, and what to do where it is not well."""

    name: str
    status: Status
    found: str
    advice: str = ""


def run_doctor(*, out: TextIO, as_json: bool = False, quick: bool = False) -> int:
    """Look at versions, known-bad sets, decoding, the net and its speed; return 1 where something is broken.

    Args:
        out: where the report goes.
        as_json: print one JSON object instead of lines.
        quick: leave out the measurements of speed, with them the check of the Triton kernels.
    """
    from vidgn.doctor.kernel_check import check_gpu_kernels
    from vidgn.doctor.self_tests import measure, self_tests

    console = Console(file=sys.stderr)
    versions = package_versions()
    checks = [Check(name, "info", version) for name, version in versions.items()]
    checks += [*environment(), *known_bad_checks(versions)]
    with console.status("self-test: decode, forward, backward, group norm"):
        for name, test in self_tests():
            checks.append(run_test(name, test))
    if not quick:
        with console.status("measuring clips per second (half a minute)"):
            checks += [Check(*line) for line in measure()]
        with console.status("checking and timing the Triton kernels"):
            checks += [Check(*line) for line in check_gpu_kernels()]
    broken = any(check.status == "broken" for check in checks)
    if as_json:
        print(json.dumps({"broken": broken, "checks": [check._asdict() for check in checks]}, indent=1), file=out)
    else:
        _print(checks, Console(file=out, highlight=False, soft_wrap=True))
    return int(broken)


def package_versions() -> dict[str, str]:
    """Return the versions that decide whether things work; what is not installed is left out if it is optional."""
    versions = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for name in (*_NEEDED, *_OPTIONAL):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in _NEEDED:
                versions[name] = "not installed"
    return versions


def environment() -> list[Check]:
    """Return what is not a package: CUDA, cuDNN, FFmpeg, cores."""
    import torch

    checks = [Check("cpu", "info", f"{len(os.sched_getaffinity(0))} usable cores")]
    if torch.cuda.is_available():
        name, cudnn = torch.cuda.get_device_name(), _cudnn_version()
        checks.append(Check("gpu", "ok", f"{name}, CUDA {torch.version.cuda}, cuDNN {cudnn}"))
    else:
        advice = "training on Kinetics needs a GPU; data=motions and predict do not"
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for the CPU"
        checks.append(Check("gpu", "info", f"none ({built})", advice))
    library = ".".join(str(part) for part in importlib.import_module("av").library_versions["libavcodec"])
    checks.append(Check("ffmpeg", "ok", f"inside PyAV, libavcodec {library}"))
    return checks


def known_bad_checks(versions: Mapping[str, str]) -> list[Check]:
    """Return a check for each needed package that is missing and for each known-bad set."""
    missing = [name for name in _NEEDED if versions[name] == "not installed"]
    checks = [Check(name, "broken", "not installed", f"pip install {name}") for name in missing]
    bad = known_bad(versions, cudnn=_cudnn_version())
    checks += [Check(item.name, "broken" if item.broken else "warn", item.why, item.advice) for item in bad]
    if not bad and not missing:
        checks.append(Check("known-bad sets", "ok", "none of them is installed"))
    if "torchcodec" in versions:
        checks.append(run_test("torchcodec", _load_torchcodec, broken="warn"))
    return checks


def run_test(name: str, test: Callable[[], str], *, broken: Status = "broken") -> Check:
    """Run a self-test; whatever it raises is the finding."""
    try:
        return Check(name, "ok", test())
    except Exception as err:  # a doctor reports every failure as a finding, and continues
        line = (str(err).strip().splitlines() or ["no message"])[0][:300]
        advice = "install FFmpeg as shared libraries, or stay with PyAV" if name == "torchcodec" else ""
        return Check(name, broken, f"{type(err).__name__}: {line}", advice)


def _load_torchcodec() -> str:
    from vidgn.data.readers.torchcodec import load_torchcodec

    return f"loads with FFmpeg {load_torchcodec()[1]}"


def _cudnn_version() -> int | None:
    import torch

    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return version if torch.cuda.is_available() else None


def _print(checks: list[Check], console: Console) -> None:
    wide = max(len(check.name) for check in checks)
    for check in checks:
        mark = f"[{_COLOURS[check.status]}]{check.status:6}[/]"
        console.print(f"{mark} {check.name:{wide}}  {_plain(check.found)}")
        if check.advice:
            console.print(f"{'':7}{'':{wide}}  -> {_plain(check.advice)}")
    count = sum(check.status == "broken" for check in checks)
    console.print(f"[red]{count} broken[/]" if count else "[green]nothing is broken[/]")


def _plain(text: str) -> Any:
    from rich.markup import escape

    return escape(text)


_NEEDED = (
    "torch", "torchvision", "pytorchvideo", "av", "lightning", "pytorch-lightning", "torchmetrics", "hydra-core",
    "numpy",
)  # fmt: skip
_OPTIONAL = ("vidgn", "decord", "torchcodec", "timm", "triton", "onnx", "onnxruntime", "fastapi")
