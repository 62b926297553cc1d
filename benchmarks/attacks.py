"""Count attacks by their kind, tried and held: `python benchmarks/attacks.py`.

An attack is a test: a hostile or damaged input, a signal, a user without a home. It held where the test passed. The
counts go to benchmarks/attacks.json and, as a table, into benchmarks/reliability.md.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "attacks.json", ROOT / "benchmarks" / "reliability.md"
BEGIN, END = "<!-- attacks.json -->", "<!-- end of attacks.json -->"
KINDS: dict[str, tuple[str, ...]] = {
    "checkpoints: descriptions, weights, counts": (
        "tests/checkpoints/test_description.py", "tests/evaluation/test_restore.py", "tests/test_untrusted.py",
    ),
    "run folders": ("tests/report/test_strangers.py",),
    "tars, their indexes, passports": (
        "tests/data/manifests/test_hostile_shards.py", "tests/data/passports/test_hostile_passports.py",
    ),
    "names of files and classes at every door": ("tests/terminal/test_escape.py",),
    "clients of serve": ("tests/inference/network",),
    "addresses, redirects, slow servers": ("tests/inference/test_fetch.py",),
    "files that pose as videos": ("tests/data/faults/test_hostile.py",),
    "values, lists, folders, command lines": ("tests/test_bad_inputs.py",),
    "a drawn split: files added, removed, moved": ("tests/data/test_splits.py", "tests/runs/test_split.py"),
    "files of the user's in the way": ("tests/files/test_run_folder.py", "tests/files/test_outputs.py"),
    "signals, stopped processes, unknown users, locales": (
        "tests/distributed/test_signals.py", "tests/data/faults/test_stopped_process.py",
        "tests/runs/test_foreign_environments.py", "tests/data/faults/test_pools.py",
    ),
}  # fmt: skip


class Count(NamedTuple):
    """Attacks of one kind; a skipped one (it needs root, or a tool) is not tried."""

    kind: str
    files: Sequence[str]
    tried: int
    held: int
    skipped: int
    seconds: float


def count(kind: str, files: Sequence[str]) -> Count:
    """Run the tests of a kind."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        began = time.monotonic()
        words = ["-n", "0", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow", f"--junitxml={report}", *files]
        subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False, stdout=sys.stderr)
        cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = sum(case.find("skipped") is not None for case in cases)
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    tried = len(cases) - skipped
    return Count(kind, files, tried, tried - failed, skipped, round(time.monotonic() - began, 1))


def table(counts: Sequence[Count]) -> str:
    """Return a table in Markdown, with a line of sums."""
    rows = [*counts, Count("all", (), *(sum(getattr(c, name) for c in counts) for name in Count._fields[2:]))]
    lines = ["| attacks | held | tried | skipped |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.kind} | {row.held} | {row.tried} | {row.skipped} |" for row in rows)])


def write(counts: Sequence[Count]) -> None:
    """Write the JSON, and the table into the page."""
    record = {
        "command": "python benchmarks/attacks.py",
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "av", "lightning", "numpy")},
        "kinds": [row._asdict() for row in counts],
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(counts)}\n{END}{after}", encoding="utf-8")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", type=int, help="the first so many kinds only; nothing is written then")
    options = parser.parse_args()
    counts = [count(kind, files) for kind, files in list(KINDS.items())[: options.kinds]]
    print(table(counts))
    if options.kinds is None:
        write(counts)
    sys.exit(any(row.held < row.tried for row in counts))


if __name__ == "__main__":
    main()
