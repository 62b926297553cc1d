import io
import json

import numpy as np
import pytest
import torch

from vidgn.evaluation import probe as module
from vidgn.evaluation.linear import Features
from vidgn.evaluation.probe import probe, run_probe

CPU = torch.device("cpu")


def test_the_features_of_a_checkpoint_are_taken_once(trained, cache, tmp_path, monkeypatch):
    options = [f"ckpt={trained / 'checkpoints' / 'best.ckpt'}", "data.num_workers=0"]
    out = io.StringIO()
    assert run_probe(options, folder=str(tmp_path), out=out, device=CPU, as_json=True) == 0
    first = json.loads(out.getvalue())
    assert [result["classifier"].partition(",")[0] for result in first["probes"]] == ["k-NN", "logistic regression"]
    with np.load(tmp_path / "train.npz") as stored:
        assert stored["features"].shape == (24, 256)  # res5 of a stem of 8 channels
        assert np.isfinite(stored["features"]).all()
    monkeypatch.setattr(module, "video_features", lambda *args: pytest.fail("they are in the folder"))
    out = io.StringIO()
    run_probe(options, folder=str(tmp_path), out=out, device=CPU)
    assert f"{first['probes'][0]['test']:6.2f} % top-1 on 12 test videos (95 % interval" in out.getvalue()


def test_a_video_that_cannot_be_read_is_wrong_in_the_test_and_left_out_elsewhere():
    rows = torch.eye(3, dtype=torch.float64).repeat(4, 1)
    labels = torch.arange(3).repeat(4)
    broken = rows.clone()
    broken[0] = torch.nan
    splits = {"train": Features(broken, labels), "val": Features(rows, labels), "test": Features(broken, labels)}
    results = probe(splits, num_classes=3)
    assert [result.test for result in results] == [pytest.approx(100 * 11 / 12)] * 2
    assert all(low <= result.test <= high for result in results for low, high in [result.interval])
    nothing = Features(torch.full((2, 3), torch.nan, dtype=torch.float64), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="probe: no val video could be read"):
        probe({**splits, "val": nothing}, num_classes=3)
