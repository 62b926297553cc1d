import importlib.util
import re
from pathlib import Path

from vidgn.norms import NORMS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "norms.md").read_text()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_every_norm_in_both_tables():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert [name for name in NORMS if rows.count(name) < 2] == []
    assert set(rows) <= set(NORMS)


def test_the_picture_is_what_its_script_draws():
    drawn = load(DOCS / "figures" / "norm_axes.py").draw()
    assert drawn == (DOCS / "figures" / "norm_axes.svg").read_text()
    assert "figures/norm_axes.svg" in PAGE


def test_the_picture_fills_the_cells_of_each_norm():
    module = load(DOCS / "figures" / "norm_axes.py")
    filled = {panel.name: (len(panel.channels), len(panel.clips)) for panel in module.PANELS}  # of 6 and 6
    assert filled == {"bn": (1, 6), "sync_bn": (1, 6), "sub_bn": (1, 3), "ln": (6, 1), "in": (1, 1), "gn": (2, 1)}


def test_the_page_says_what_a_layer_learns_and_stores():
    """The table of costs against the layers themselves, 64 channels, two parts."""
    counts = {"0": 0, "2 C": 128, "3 C": 192, "4 C": 256, "2 S C": 256, "33 C": 33 * 64}
    counts |= {"2 C + 1": 129, "2 C + 2": 130, "2 C + 6": 134}
    rows = re.findall(r"^\| `(\w+)` \| ([^|\n]+?) \| ([^|\n]+?) \| [^|\n]+ \| [^|\n]+ \| [^|\n]+ \|$", PAGE, re.M)
    assert [name for name, *_ in rows] == list(NORMS)
    for name, learned, stored in rows:
        if name == "wn":
            continue  # its g are the kernels'
        layer = NORMS[name].build(64, **({"eps": 1e-5} if "eps" in NORMS[name].options else {}))
        assert sum(parameter.numel() for parameter in layer.parameters()) == counts[learned]
        assert sum(buffer.numel() for buffer in layer.buffers() if buffer.is_floating_point()) == counts[stored]
