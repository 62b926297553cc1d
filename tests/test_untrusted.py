"""Files from strangers are data: nothing in them runs, fills the memory or leaves the folder; each is one sentence."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from vidgn.cli.main import main
from vidgn.data.manifests.manifest import Manifest
from vidgn.evaluation.results import Result, write_result
from vidgn.models.weights.sources import open_source
from vidgn.report.read_run import read_run
from vidgn.scores.predictions import Prediction


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def write_weights(path, kind, marker):
    plain = io.BytesIO()
    torch.save({"state_dict": {"conv1.weight": torch.zeros(64, 3, 7, 7)}}, plain)
    if kind == "code":
        torch.save({"state_dict": Evil(marker)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(marker), protocol=2))
    elif kind == "packed":
        with zipfile.ZipFile(plain) as parts, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in parts.namelist():
                packed.writestr(name, parts.read(name) + bytes(10_000_000))
    elif kind == "arrays":
        np.savez_compressed(path, a=np.zeros(20_000_000, np.uint8))
    elif kind == "object":
        np.savez(path, a=np.array([Evil(marker)], dtype=object))
    elif kind == "names":
        torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
    elif kind == "list":
        torch.save([torch.zeros(1)], path)
    else:
        path.write_bytes({"empty": b"", "html": b"<html>404</html>", "cut": plain.getvalue()[:-40]}[kind])


WEIGHTS = [
    ("a.pth", "code", "cannot be read as plain tensors"),
    ("a.pkl", "pickle", "mkdir"),
    ("a.pth", "pickle", "cannot be read as plain tensors"),
    ("a.npz", "object", "cannot be read as an archive of numeric arrays"),
    ("a.pth", "packed", "inflates to"),
    ("a.npz", "arrays", "inflates to"),
    ("a.pth", "names", "is not a weights file of a known format: it holds a"),
    ("a.pth", "list", "is not a weights file of a known format"),
    ("a.pth", "empty", "cannot be read as plain tensors"),
    ("a.pth", "html", "cannot be read as plain tensors"),
    ("a.pth", "cut", "cannot be read as plain tensors"),
    ("a.pkl", "empty", r"a\.pkl"),
    ("a.pkl", "html", r"a\.pkl"),
    ("a.npz", "html", r"a\.npz"),
]


@pytest.mark.parametrize(("name", "kind", "message"), WEIGHTS)
def test_wrong_weights(tmp_path, name, kind, message):
    marker = tmp_path / "it ran"
    write_weights(tmp_path / name, kind, marker)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / name, depth=50)
    assert not marker.exists()


def test_the_evil_files_would_run_elsewhere(tmp_path):
    """The marker of the tests above appears where a file is unpickled without care."""
    write_weights(tmp_path / "a.pkl", "pickle", tmp_path / "it ran")
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert (tmp_path / "it ran").exists()


CONFIGS = [
    ("!!python/object/apply:os.mkdir ['MARKER']", "cannot be read as plain values"),
    ("norm: !!python/name:os.system", "cannot be read as plain values"),
    ("a: [1,", "cannot be read as plain values"),
    ("a: ${", "cannot be read as plain values"),
    ("- 1", "does not say clip_len, batch, data, norm"),
    ("", "does not say"),
    ("clip_len: 8", "does not say batch, data, norm"),
]


@pytest.mark.parametrize(("text", "message"), CONFIGS)
def test_a_wrong_run_folder(tmp_path, text, message):
    marker = tmp_path / "it ran"
    (tmp_path / "config.yaml").write_text(text.replace("MARKER", str(marker)))
    with pytest.raises(ValueError, match=f"config.yaml {message}"):
        read_run(tmp_path)
    assert not marker.exists()


COMMANDS = [
    ("predict a.mp4 --ckpt none.ckpt", "none.ckpt"),
    ("predict a.mp4 --ckpt evil.ckpt", "evil.ckpt"),
    ("predict a.mp4 --ckpt text.ckpt", "text.ckpt"),
    ("predict a.mp4 --ckpt a.mp4", "is a video"),
    ("predict --ckpt text.ckpt", ""),
    ("predict a.mp4 --ckpt text.ckpt --json --csv", "--json and --csv are both given"),
    ("predict a.mp4 --ckpt text.ckpt --stride 3", "--stride belongs to --timeline"),
    ("explain a.mp4 --ckpt text.ckpt", "text.ckpt"),
    ("features a.mp4 --ckpt text.ckpt", "text.ckpt"),
    ("export --ckpt text.ckpt", "text.ckpt"),
    ("replay none.pt", "none.pt does not exist"),
    ("replay text.ckpt", "is not a whole checkpoint"),
    ("replay evil.ckpt", "cannot be read as tensors and plain values"),
    ("report none", "none is not a folder"),
    ("report .", "it has no config.yaml"),
    ("model --model resnet", "resnet"),
    ("model --norm batchnorm", "batchnorm"),
]


@pytest.mark.parametrize(("words", "message"), COMMANDS)
def test_a_wrong_command_is_one_sentence(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "a.mp4").write_text("no video")
    torch.save({"state_dict": Evil(tmp_path / "it ran")}, tmp_path / "evil.ckpt")
    with pytest.raises(SystemExit, match=r"^2$"):
        main(words.split())
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert message in err
    assert not (tmp_path / "it ran").exists()


def test_names_are_no_formulas_in_a_spreadsheet(tmp_path):
    """Cells that begin with =, +, -, @, tab or carriage return are written as text."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx", "plain"]
    manifest = Manifest.from_rows([(f"{name}.mp4", i) for i, name in enumerate(names)], root=tmp_path, classes=names)
    rows = [Prediction(i, i, tuple(float(k == i) for k in range(6)), None, 1, 1, 1) for i in range(6)]
    rows[5] = Prediction(5, 5, None, "=cmd|' /C calc'!A0")
    result = Result(0, 0, 0, 0, 6, 5, 1, "", tmp_path)
    write_result(result, rows, manifest, checkpoint=None, seconds=1, device="cpu", numbers={})
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    cells = [cell for line in lines for cell in line.split(",")]
    assert not [cell for cell in cells if cell.lstrip('"').startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert json.loads((tmp_path / "metrics.json").read_text())["failures"] == {"plain.mp4": "=cmd|' /C calc'!A0"}
