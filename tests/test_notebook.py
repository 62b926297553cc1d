"""The notebook runs from its first cell to its last, as a reader would run it."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "own_videos.ipynb"
nbclient = pytest.importorskip("nbclient", reason="pip install 'vidgn[notebook]'")
nbformat = pytest.importorskip("nbformat")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook with its outputs, run outside the repository's folder but for its name."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))
        patch.setenv("JUPYTER_DATA_DIR", str(folder / "jupyter"))
        _install_kernel(folder / "jupyter")
        nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook, folder


def _install_kernel(folder):
    """Name this interpreter `python3`, whatever kernels the machine has."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(folder / "kernels" / "python3")
    assert sys.executable in (folder / "kernels" / "python3" / "kernel.json").read_text()


@pytest.mark.slow  # trains in a kernel of its own
@pytest.mark.filterwarnings("ignore:.*event loop.*:RuntimeWarning", "ignore::DeprecationWarning")
def test_from_a_folder_of_videos_to_a_trained_classifier(executed):
    notebook, folder = executed
    assert (folder / "notebook" / "run" / "checkpoints" / "best.ckpt").is_file()
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells if "outputs" in cell]
    assert any("video " in text and "top-1" in text for text in texts)  # the test's table
    metrics = json.loads((folder / "notebook" / "run" / "metrics.json").read_text())
    assert metrics["videos_expected"] >= 8
    assert metrics["video_top1"] >= 75  # chance is 50
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]
    assert len(pictures) == 2  # curves and film strip


def test_it_is_committed_without_outputs():
    """What a reader sees is what runs, and no picture of one machine is in the history."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code"] == [[], [], [], [], [], []]
