"""The layers of the package: who may import whom, and the one door of each foreign library."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "vidgn").rglob("*.py"), ROOT / "train.py", ROOT / "eval.py"])

# Layers from the top: a part may import parts of lower lines, and itself.
LAYERS = (
    ("vidgn.cli", "vidgn.api", "vidgn.loaded_model", "vidgn.__main__", "train", "eval"),
    ("vidgn.detection",),
    ("vidgn.conversion",),
    ("vidgn.inference",),
    ("vidgn.training",),
    ("vidgn.evaluation",),
    ("vidgn.curation", "vidgn.report", "vidgn.doctor"),
    ("vidgn.runs",),
    ("vidgn.classifier", "vidgn.callbacks"),
    ("vidgn.models", "vidgn.data"),
    (
        "vidgn.norms", "vidgn.optim", "vidgn.checkpoints", "vidgn.objective", "vidgn.scores", "vidgn.terminal",
        "vidgn.files", "vidgn.lightning_internals",
    ),
)  # fmt: skip

# What is stricter than its line, longest prefix wins: all that the part may import of the package besides itself.
STRICTER = {
    "vidgn.detection.network": ("vidgn.norms",),
    "vidgn.detection.data": ("vidgn.data", "vidgn.files.outputs"),
    "vidgn.callbacks": (
        "vidgn.norms",
        "vidgn.checkpoints",
        "vidgn.files.whole_files",
        "vidgn.terminal.escape",
        "vidgn.lightning_internals",
    ),
    "vidgn.models": ("vidgn.norms", "vidgn.checkpoints.description", "vidgn.files.shipped"),
    "vidgn.models.weights.inflate": (),
    "vidgn.models.weights.load": (
        "vidgn.models.weights.inflate",
        "vidgn.models.weights.formats",
        "vidgn.models.weights.sources",
        "vidgn.norms",
        "vidgn.models.net",
        "vidgn.models.stages",
    ),
    "vidgn.data": (
        "vidgn.files.outputs",
        "vidgn.files.bounds",
        "vidgn.objective.targets",
        "vidgn.objective.target_tensors",
    ),
    "vidgn.data.clips": (),
    "vidgn.data.transforms": (),
    "vidgn.data.storage": (),
    "vidgn.data.readers": ("vidgn.data.storage",),
    "vidgn.data.faults": ("vidgn.data.readers", "vidgn.data.storage", "vidgn.data.video"),
    "vidgn.data.loading": ("vidgn.data.readers", "vidgn.data.faults"),
    "vidgn.data.loading.sampler": ("vidgn.data.loading.balance",),
    "vidgn.data.manifests": ("vidgn.data.storage", "vidgn.objective.targets"),
    "vidgn.data.synthetic": ("vidgn.data.manifests", "vidgn.data.faults", "vidgn.files.outputs"),
    "vidgn.data.tables": ("vidgn.data.manifests", "vidgn.data.storage", "vidgn.objective.targets"),
    "vidgn.data.synthetic.drawing": (),
    "vidgn.norms": (),
    "vidgn.norms.kernels": (),
    "vidgn.optim": (),
    "vidgn.lightning_internals": (),
    "vidgn.checkpoints": ("vidgn.files", "vidgn.objective.targets"),
    "vidgn.objective": ("vidgn.scores",),
    "vidgn.objective.targets": (),
    "vidgn.scores": (),
    "vidgn.terminal": (),
    "vidgn.files": (),
}

DOORS = {
    "pytorchvideo": ("vidgn.models.builders",),
    "av": ("vidgn.data.video", "vidgn.data.readers", "vidgn.data.synthetic.motions", "vidgn.curation.encode"),
    "decord": ("vidgn.data.video", "vidgn.data.readers"),
    "torchcodec": ("vidgn.data.video", "vidgn.data.readers"),
    "lightning": (
        "vidgn.data.module",
        "vidgn.classifier",
        "vidgn.checkpoints.checkpoint",
        "vidgn.lightning_internals",
        "vidgn.callbacks",
        "vidgn.terminal.console",
        "vidgn.runs",
        "vidgn.evaluation",
        "vidgn.training",
        "vidgn.inference",
        "vidgn.detection",
        "vidgn.cli",
        "train",
        "eval",
    ),
    "hydra": ("vidgn.runs", "vidgn.cli", "vidgn.training.search.space"),
    "omegaconf": ("vidgn.runs", "vidgn.cli"),
    "optuna": ("vidgn.training.search",),
    "torchmetrics": ("vidgn.classifier", "vidgn.detection.metric"),
    "faster_coco_eval": ("vidgn.detection.metric", "vidgn.detection.data.coco"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def imports(path: Path) -> list[str]:
    found = []
    tree = ast.parse(path.read_text())
    if path == ROOT / "vidgn" / "__init__.py":  # what type checkers alone see
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix if prefix.endswith("_") else prefix + ".")


def layer_of(module: str) -> int | None:
    return next((k for k, parts in enumerate(LAYERS) if any(within(module, part) for part in parts)), None)


def may_import(module: str, other: str) -> bool:
    part = max((prefix for prefix in STRICTER if within(module, prefix)), key=len, default=None)
    if part is not None:
        return within(other, part) or any(within(other, prefix) for prefix in STRICTER[part])
    above, below = layer_of(module), layer_of(other)
    if module == "vidgn" or below is None:  # the face of the package; what it imports later does not count here
        return within(other, "vidgn.norms")
    if above is None:
        return False
    same = any(within(module, name) and within(other, name) for name in LAYERS[above])
    return same or below > above


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_imports_lower_layers_only(path):
    module = module_name(path)
    wrong = [name for name in imports(path) if within(name, "vidgn") and not may_import(module, name)]
    assert not wrong, f"{module} imports {wrong}"


def test_every_folder_has_a_rule():
    assert not [
        module_name(path) for path in SOURCES if layer_of(module_name(path)) is None and path.parent != ROOT / "vidgn"
    ]


def module_graph(folders: list[str]) -> dict[str, set[str]]:
    paths = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            # Scripts of benchmarks/ import each other by their bare names.
            paths[path.stem if folder == "benchmarks" else module_name(path)] = path
    paths |= {path.stem: path for path in ROOT.glob("*.py")}
    graph = {}
    for module, path in paths.items():
        names = {name if name in paths else name.rpartition(".")[0] for name in imports(path)}
        graph[module] = (names & set(paths)) - {module}
    return graph


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return one cycle of the graph, or nothing."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def test_no_files_import_each_other_in_a_circle():
    assert find_cycle(module_graph(["vidgn"])) == []
    assert find_cycle(module_graph(["benchmarks"])) == []
    assert find_cycle(module_graph(["experiments"])) == []


def test_no_folders_import_each_other_in_a_circle():
    """A folder and the folders inside it count as one to their own parent."""
    graph: dict[str, set[str]] = {}
    for module, others in module_graph(["vidgn"]).items():
        for other in others:
            a, b = module.split("."), other.split(".")
            shared = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            if len(a) > shared + 1 and len(b) > shared + 1:
                graph.setdefault(".".join(a[: shared + 1]), set()).add(".".join(b[: shared + 1]))
    assert find_cycle(graph) == []


def test_a_folder_holds_at_most_fifteen_modules():
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in (ROOT / "vidgn").rglob("*")
        if folder.is_dir() and (count := len([path for path in folder.glob("*.py") if path.name != "__init__.py"])) > 15
    }
    assert not crowded


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_foreign_library_comes_in_by_its_one_door(path):
    module = module_name(path)
    for name in imports(path):
        doors = DOORS.get(name.partition(".")[0])
        assert doors is None or any(within(module, door) for door in doors), f"{module} imports {name}"


def test_the_rules_find_a_wrong_import(tmp_path):
    assert not may_import("vidgn.data.clips", "vidgn.data.dataset")
    assert not may_import("vidgn.runs.trainer", "vidgn.training.parts")
    assert not may_import("vidgn.data.dataset", "vidgn.models.net")
    assert may_import("vidgn.training.train", "vidgn.runs.trainer")
    assert not within("vidgn.normsx", "vidgn.norms")
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []
    (tmp_path / "a.py").write_text("def f():\n    from vidgn.data import dataset\n")
    assert imports(tmp_path / "a.py") == ["vidgn.data.dataset"]


def test_datasets_is_not_a_package():
    assert not (ROOT / "datasets" / "__init__.py").exists(), "it would shadow Hugging Face's datasets"
