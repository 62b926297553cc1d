import json

import pytest
import torch

from experiments import table8
from experiments.grid import Job, read_results
from experiments.run import Cell, build_cell, score_videos
from experiments.settings import SETTING
from experiments.table8 import main, run_grid, smoke, smoke_jobs, smoke_setting
from vidgn.norms import GroupNorm3d
from vidgn.norms.batch import SubBatchNorm3d


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The smoke run: its folder and its tables."""
    folder = tmp_path_factory.mktemp("smoke")
    return folder, smoke(folder)


@pytest.mark.slow
def test_the_smoke_run_goes_the_whole_way(finished):
    folder, tables = finished
    results = read_results(folder / "results")
    cells = {run["cell"] for run in results}
    assert cells == {f"{norm}_t32_b4" for norm in ("bn", "gn", "sync_bn", "batch_renorm", "frozen_bn", "ln", "in")} | {
        "bn_t64_b4", "gn_t64_b4", "gn_c2_t32_b4"
    }  # fmt: skip
    assert len(results) == 14
    assert "| GN | not run |" in tables
    assert "| BN, 32 to 64 frames at 4 clips |" in tables
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [
        "errors.png", "length.png", "percentiles.png"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_says_all_that_the_tables_and_pictures_need(finished):
    runs = {(run["cell"], run["seed"]): run for run in read_results(finished[0] / "results")}
    batch, group = runs["bn_t32_b4", 0], runs["gn_t32_b4", 1]
    assert set(batch["test"]) == {"plain", "precise"}
    assert set(group["test"]) == {"plain"}
    assert batch["steps"] == 2  # 16 videos, 2 devices with 4 clips, one epoch
    assert runs["batch_renorm_t32_b4", 0]["steps"] == 2  # device after device, the gradients added up
    (row,) = batch["curves"]
    assert row["epoch"] == 1
    assert 0 <= row["val_error"] <= 100
    assert 0 <= row["train_error"] <= 100
    assert row["percentiles"] == sorted(row["percentiles"])
    assert batch["versions"].keys() == {"python", "vidgn", "torch", "lightning", "numpy"}


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_what_is_lost_comes_out_the_same(finished, monkeypatch):
    folder, _ = finished
    lost = folder / "results" / "gn_t32_b4_s1.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    run = []
    monkeypatch.setattr(table8, "run_job", lambda job, **rest: run.append(job) or real(job, **rest))
    run_grid(smoke_jobs(), setting=smoke_setting(), results=folder / "results", cache=folder / "cache")
    assert run == [Job(Cell("gn", 32, 4), 1)]
    after = json.loads(lost.read_text())
    assert (after["test"], after["curves"]) == (before["test"], before["curves"])


real = table8.run_job


def test_norms_of_the_cells_are_those_of_the_table():
    def kinds(cell):
        net = build_cell(cell, setting=SETTING, num_classes=16)
        return {type(module) for module in net.modules() if hasattr(module, "eps")}

    assert kinds(Cell("bn", 32, 8)) == {SubBatchNorm3d}  # statistics of each of the 4 devices
    assert kinds(Cell("sync_bn", 32, 8)) == {torch.nn.BatchNorm3d}  # of all of them
    assert kinds(Cell("gn", 32, 8)) == {GroupNorm3d}
    stem = build_cell(Cell("gn", 32, 8), setting=SETTING, num_classes=16).blocks[0].norm
    assert (stem.num_channels, stem.num_groups) == (8, 4)  # two channels per group, as 64 in 32
    assert build_cell(Cell("gn", 32, 8, num_groups=2), setting=SETTING, num_classes=16).blocks[0].norm.num_groups == 2


def test_scores_are_averaged_over_the_clips_of_a_video():
    class Net(torch.nn.Module):
        def scores(self, x):  # class 1 with the probability that the first pixel says
            p = x[:, 0, 0, 0, 0] * 0.225 + 0.45
            return torch.stack([1 - p, p], 1)

    clips = torch.tensor([[51, 255], [102, 102]], dtype=torch.uint8)  # 0.2 and 1, 0.4 and 0.4 of white
    clips = clips[:, :, None, None, None, None].expand(2, 2, 3, 1, 1, 1)
    found = score_videos(Net(), clips, torch.tensor([1, 1]))
    assert found == {"video_top1": 50.0, "video_top5": 100.0, "clip_top1": 25.0}


@pytest.mark.slow
def test_the_smoke_word_prints_tables_and_leaves_nothing(monkeypatch, capsys):
    monkeypatch.setattr(table8, "smoke", lambda folder: f"tables of {folder.exists()}")
    main(["--smoke"])
    assert capsys.readouterr().out == "tables of True\n"


@pytest.mark.slow
def test_other_words_choose_folder_and_seeds(monkeypatch, tmp_path):
    called = {}
    monkeypatch.setattr(table8, "run_grid", lambda todo, **rest: called.update(rest, count=len(todo)))
    main(["--seeds", "2", "--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c")])
    assert called == {"setting": SETTING, "results": tmp_path / "r", "cache": tmp_path / "c", "count": 42}
