"""requirements.txt: the tested versions with hashes, of everything that an installation needs."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_FREE = {"decord", "triton"}  # torch pins its own triton; decord's last release is the only one that is installed
_PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==([^ \\;\n]+)(?: ;[^\\]*)?((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", re.MULTILINE
)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file):
    return {normal(name): (version, hashes) for name, version, hashes in _PIN.findall((ROOT / file).read_text("utf-8"))}


def test_every_requirement_has_a_hash_and_every_line_is_read():
    text = (ROOT / "requirements.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert len(lines) == len(pins("requirements.txt")) > 20
    assert all(hashes for _, hashes in pins("requirements.txt").values())


def test_versions_are_those_of_the_constraints():
    tested, hashed = pins("constraints.txt"), pins("requirements.txt")
    common = set(tested) & set(hashed)
    assert {name: hashed[name][0] for name in common} == {name: tested[name][0] for name in common}
    left = {name for name in set(hashed) - set(tested) - _FREE if not name.startswith(("nvidia-", "cuda-"))}
    assert not left, "name them in constraints.txt"


@pytest.mark.parametrize(
    "needed", tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
)
def test_what_vidgn_needs_is_there(needed):
    assert normal(re.split(r"[^A-Za-z0-9._-]", needed)[0]) in pins("requirements.txt")
