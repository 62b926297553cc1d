import subprocess
import sys

import pytest

SCRIPT = """
import sys
import torch
before = set(sys.modules)
import vidgn
vidgn.GroupNorm3d(64), vidgn.make_norm("gn")
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(roots - set(sys.stdlib_module_names)))
"""


def test_importing_the_package_imports_no_torch():
    script = "import sys, vidgn; print('torch' in sys.modules); vidgn.GroupNorm3d(4, num_groups=2)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False"]


@pytest.mark.slow
def test_importing_the_package_imports_nothing_beyond_torch():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["vidgn"]
