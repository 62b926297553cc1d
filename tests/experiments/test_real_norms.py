import json

import numpy as np
import pytest
import torch

from experiments import real, real_features, real_norms, real_tables
from experiments.real_features import Clips
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.data.transforms import Normalize
from vidgn.models.registry import build_net


@pytest.fixture(scope="module")
def blocks():
    """The frozen part and the last two blocks of res4, of an eighth of the width."""
    torch.manual_seed(0)
    net = build_net(model={"name": "i3d_r50", "width": 8, "dropout": 0.0}, norm={"name": "bn"}, crop=80, num_classes=2)
    trunk, tail = real_features.split_res4(net.eval())
    for block in tail:
        torch.nn.init.ones_(block.branch2.norm_c.weight)  # 0 at the start, where a block would do nothing
    return trunk, tail


def drawn_clips(num_recordings=8, seed=0):
    """Two classes that differ in a channel, one clip of each recording."""
    generator = np.random.default_rng(seed)
    labels = torch.arange(num_recordings) % 2
    features = generator.random((num_recordings, 2, 128, 2, 3, 3)).astype(np.float16)
    features[labels.numpy() == 1, :, 0] += 20
    return Clips(features, labels, np.array([f"g{number}" for number in range(num_recordings)]))


@pytest.mark.slow
def test_group_norm_blocks_imitate_batch_norm_and_only_one_standardizes(blocks):
    features = torch.rand(16, 128, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    tails = real_norms.convert_tails(blocks[1], list(features.split(8)))
    expected = blocks[1].eval()(features)
    for tail in tails.values():
        with torch.no_grad():
            pair = torch.stack([expected.flatten(), tail.eval()(features).flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.8
        assert not any(isinstance(layer, torch.nn.BatchNorm3d) for layer in tail.modules())
    standardized = [hasattr(tail[0].branch2.conv_a, "standardization") for tail in tails.values()]
    assert standardized == [False, True]


@pytest.mark.slow
def test_a_run_learns_and_leaves_the_start_as_it_was(blocks, monkeypatch):
    monkeypatch.setattr(real_norms, "AUTOCAST", False)  # some processors have wrong bfloat16 gradients
    before = {name: tensor.clone() for name, tensor in blocks[1].state_dict().items()}
    parts = real_norms.Parts(drawn_clips(16), drawn_clips(8, seed=1), drawn_clips(8, seed=2))
    run = real_norms.train(blocks[1], parts, batch=4, rate=0.01, seed=0, epochs=3)
    assert run["steps"] == 12
    assert [row["epoch"] for row in run["curves"]] == [1, 2, 3]
    assert run["curves"][-1]["train_loss"] < run["curves"][0]["train_loss"]
    assert set(run["test"]) == {"plain", "precise"}
    assert all(set(scored["right"]) <= {"0", "1"} and len(scored["right"]) == 8 for scored in run["test"].values())
    assert all(torch.equal(before[name], tensor) for name, tensor in blocks[1].state_dict().items())


@pytest.mark.slow
def test_the_grid_takes_the_rates_of_tune_and_runs_a_cell_once(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(real_norms, "EPOCHS", 1)
    monkeypatch.setattr(real_norms, "BATCHES", (4,))
    monkeypatch.setattr(real_norms, "RATES", (0.01, 0.02))
    parts = real_norms.Parts(drawn_clips(8), drawn_clips(4), drawn_clips(4, seed=1))
    tails = dict.fromkeys(real_norms.NORMS, blocks[1])
    with pytest.raises(ValueError, match=r"no results of tune for bn, frozen_bn, gn, gn_ws"):
        real_norms.chosen_rates(tmp_path)
    real_norms.tune(tails, parts, out=tmp_path)
    file = tmp_path / "tune_gn_r0.02.json"
    file.write_text(json.dumps({**(run := json.loads(file.read_text())), "curves": [{"val_error": -1.0}]}))
    assert "test" not in run
    rates = real_norms.chosen_rates(tmp_path)
    assert rates["gn"] == 0.02
    assert real_norms.best_of_tuning(tmp_path) == ("gn", 0.02)
    real_norms.run_grid(tails, {"short": parts}, rates=rates, out=tmp_path, seeds=[1])
    cells = sorted(path.stem for path in tmp_path.glob("*_s[0-9].json"))
    assert cells == [f"{norm}_short_b4_s1" for norm in sorted(real_norms.NORMS)]
    assert json.loads((tmp_path / "gn_short_b4_s1.json").read_text())["rate"] == 0.01  # half the clips, half the rate
    (tmp_path / "gn_short_b4_s1.json").write_text("kept")
    real_norms.run_grid(tails, {"short": parts}, rates=rates, out=tmp_path, seeds=[1])
    assert (tmp_path / "gn_short_b4_s1.json").read_text() == "kept"


@pytest.mark.slow
def test_fine_tuning_adds_its_cells_to_those_of_the_head(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(real, "CLIPS", (2, None))
    monkeypatch.setattr(real, "FINE_TUNE_EPOCHS", 1)
    monkeypatch.setattr(real.real_norms, "best_of_tuning", lambda out: ("bn", 0.01))
    for split, clips in (("train", drawn_clips(16)), ("val", drawn_clips(8, seed=1))):
        np.save(tmp_path / f"{split}-short.npy", clips.features)
        names = [f"{'ab'[label]}/x_g{number}_c1.mp4" for number, label in enumerate(clips.labels)]
        (tmp_path / f"{split}-short.json").write_text(json.dumps(names))
    out = tmp_path / "heads.json"
    out.write_text(json.dumps({"cells": {"fine-tuning_2_s0": "kept"}}))
    monkeypatch.setattr(real, "draw", lambda train, clips, seed: torch.arange(8 if clips else 16))
    real.fine_tune_cells({"bn": blocks[1]}, tmp_path, tmp_path, out)
    cells = json.loads(out.read_text())["cells"]
    assert len(cells) == 6
    assert cells["fine-tuning_2_s0"] == "kept"
    assert cells["fine-tuning_all_s2"]["train_clips"] == 16
    assert cells["fine-tuning_all_s2"]["norm"] == "bn"


@pytest.mark.slow
def test_features_are_computed_once_per_view(blocks, tmp_path, monkeypatch):
    for split in ("train", "val"):
        path = tmp_path / split / "move_up" / "x_g1_c1.mp4"
        path.parent.mkdir(parents=True)
        write_video(path, draw_video("move_up", spec=MotionsSpec(num_frames=20, side=40), key=(0, 1)))
    cache = tmp_path / "cache"
    real_features.cache_features(blocks[0], Normalize(), tmp_path, cache)
    short, long = (real_features.read_features(cache, "train", length) for length in ("short", "long"))
    assert short.features.shape == (1, 2, 128, 2, 5, 5)
    assert long.features.shape == (1, 2, 128, 4, 5, 5)
    assert real_features.read_features(cache, "val", "short").features.shape[1] == 1
    assert not np.array_equal(short.features[0, 0], short.features[0, 1])
    assert short.groups.tolist() == ["g1"]
    real_features.cache_features(torch.nn.Identity(), Normalize(), tmp_path, cache)
    again = real_features.read_features(cache, "train", "short")
    assert short.features.tobytes() == again.features.tobytes()


def test_a_name_without_a_recording_is_refused():
    with pytest.raises(ValueError, match=r"jump/one\.mp4 must end with _gNUMBER_cNUMBER"):
        real_features.recording("jump/one.mp4")


def test_the_validation_part_has_whole_recordings_and_a_fifth_of_each_class():
    labels = torch.arange(3).repeat_interleave(20)
    groups = np.array([f"g{number // 2}" for number in range(60)])
    train, val = real_features.split_validation(labels, groups)
    assert sorted([*train, *val]) == list(range(60))
    assert not set(groups[train]) & set(groups[val])
    assert np.bincount(labels[val]).tolist() == [4, 4, 4]


def test_tables_compare_the_same_clips_and_seeds(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"groups": ["g0", "g0", "g1", "g1"]}))
    rights = {("bn", 8): "1111", ("bn", 1): "0101", ("gn", 8): "1100"}
    for (norm, batch), bits in rights.items():
        for seed in range(2 if norm == "bn" else 1):
            test = {"plain": {"right": bits}} | ({"precise": {"right": "1111"}} if norm == "bn" else {})
            curves = [{"epoch": 1, "train_error": 50.0, "val_error": 60.0}]
            cell = {"norm": norm, "length": "short", "batch": batch, "seed": seed, "test": test, "curves": curves}
            (tmp_path / f"{norm}_short_b{batch}_s{seed}.json").write_text(json.dumps(cell))
    for norm in real_norms.NORMS:
        tuned = {"norm": norm, "rate": 0.01, "curves": [{"val_error": 60.0}]}
        (tmp_path / f"tune_{norm}_r0.01.json").write_text(json.dumps(tuned))
    results = real_tables.Results(tmp_path)
    assert results.level("bn", ("short", 8)) == (100.0, 100.0, 100.0, 2)
    assert results.level("gn", ("short", 8)) == (50.0, 0.0, 100.0, 1)  # one recording is right, the other wrong
    difference = results.difference((1, "bn", ("short", 1)), (-1, "bn", ("short", 8)))
    assert difference == (-50.0, -50.0, -50.0, 2)  # one of two clips in each recording
    text = real_tables.render(tmp_path, figure=tmp_path / "curves.png")
    assert "| BN, running averages: 8 to 1 clips | -50.0 | -50.0 to -50.0 | 2 |" in text
    assert "| BN, precise statistics: 8 to 1 clips | +0.0 | +0.0 to +0.0 | 2 |" in text
    assert "| GN: 8 to 1 clips | missing | | |" in text
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_the_page_shows_the_tables_of_the_results():
    page = (real_norms.RESULTS.parents[1] / "README.md").read_text("utf-8")
    assert all(part.strip() in page for part in real_tables.render(real_norms.RESULTS).split("\n\n"))
