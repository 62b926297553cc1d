"""The layers of the package: who may import whom, and the one door of each foreign library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "vidgn").rglob("*.py"), ROOT / "train.py", ROOT / "eval.py"])

# What each part of the package may import of the package, longest prefix wins.
ALLOWED = {
    "vidgn": ("vidgn.norms",),
    "vidgn.norms": ("vidgn.norms",),
    "vidgn.models": ("vidgn.models", "vidgn.norms"),
    "vidgn.models.inflate": (),
    "vidgn.models.weights": ("vidgn.models.inflate", "vidgn.models.formats", "vidgn.models.sources"),
    "vidgn.data": ("vidgn.data",),
    "vidgn.data.clips": (),
    "vidgn.data.pieces": (),
    "vidgn.data.remote": ("vidgn.data.pieces",),
    "vidgn.data.video": ("vidgn.data.readers", "vidgn.data.remote", "vidgn.data.pieces"),
    "vidgn.data.readers": ("vidgn.data.readers", "vidgn.data.remote", "vidgn.data.video"),
    "vidgn.data.transforms": (),
    "vidgn.data.manifest": ("vidgn.data.manifest_", "vidgn.data.remote"),
    "vidgn.data.sampler": (),
    "vidgn.data.motions": ("vidgn.data.drawing",),
    "vidgn.data.drawing": (),
    "vidgn.optim": (),
    "vidgn.checkpoint": (),
    "vidgn.predictions": (),
    "vidgn.scoring": ("vidgn.predictions",),
    "vidgn.classifier": ("vidgn.optim", "vidgn.norms", "vidgn.checkpoint", "vidgn.predictions", "vidgn.scoring"),
    "vidgn.callbacks": ("vidgn.callbacks", "vidgn.norms", "vidgn.checkpoint"),
    "vidgn.tools": ("vidgn",),
    "train": ("vidgn",),
    "eval": ("vidgn",),
}

DOORS = {
    "pytorchvideo": ("vidgn.models.resnet3d",),
    "av": ("vidgn.data.video", "vidgn.data.readers", "vidgn.data.motions", "vidgn.tools.prepare"),
    "decord": ("vidgn.data.video", "vidgn.data.readers"),
    "torchcodec": ("vidgn.data.video", "vidgn.data.readers"),
    "lightning": (
        "vidgn.data.module",
        "vidgn.classifier",
        "vidgn.checkpoint",
        "vidgn.callbacks",
        "vidgn.tools",
        "train",
        "eval",
    ),
    "hydra": ("vidgn.tools", "train", "eval"),
    "torchmetrics": ("vidgn.classifier",),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix if prefix.endswith("_") else prefix + ".")


def rule_for(module: str) -> tuple[str, ...]:
    return ALLOWED[max((prefix for prefix in ALLOWED if within(module, prefix)), key=len)]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_imports_lower_layers_only(path):
    allowed = (*rule_for(module_name(path)), module_name(path))
    ours = [name for name in imports(path) if within(name, "vidgn")]
    wrong = [name for name in ours if not any(within(name, prefix) for prefix in allowed)]
    assert not wrong, f"{module_name(path)} imports {wrong}; it may import {allowed}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_foreign_library_comes_in_by_its_one_door(path):
    module = module_name(path)
    for name in imports(path):
        doors = DOORS.get(name.partition(".")[0])
        assert doors is None or any(within(module, door) for door in doors), f"{module} imports {name}"


def test_the_rules_find_a_wrong_import(tmp_path):
    assert rule_for("vidgn.data.clips") == ()
    assert rule_for("vidgn.models.sources") == ("vidgn.models", "vidgn.norms")
    assert not within("vidgn.normsx", "vidgn.norms")
    (tmp_path / "a.py").write_text("def f():\n    from vidgn.data import dataset\n")
    assert imports(tmp_path / "a.py") == ["vidgn.data.dataset"]


def test_datasets_is_no_package():
    assert not (ROOT / "datasets" / "__init__.py").exists(), "it would shadow Hugging Face's datasets"
