"""A public name of the package is defined in one module: a reader who knows it knows where it is."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The two passes of a kernel have the names that torch.autograd gives them.
ALLOWED = {"forward", "backward"}


def public_names(source):
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name


def test_a_public_name_is_defined_once():
    modules = {}
    for path in sorted((ROOT / "vidgn").rglob("*.py")):
        for name in public_names(path.read_text()):
            modules.setdefault(name, []).append(str(path.relative_to(ROOT)))
    twice = {name: where for name, where in modules.items() if len(where) > 1 and name not in ALLOWED}
    assert twice == {}


def test_names_below_the_top_level_do_not_count():
    assert list(public_names("class A:\n    def b(self): ...\ndef _c(): ...\ndef d(): ...")) == ["A", "d"]
