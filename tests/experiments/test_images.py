import json
from dataclasses import replace

import pytest
import torch

from experiments.image_tables import read_runs, write_page
from experiments.images import (
    BATCHES,
    RATES,
    Cell,
    Setting,
    build,
    cells,
    chosen_rate,
    draw,
    main,
    run_grid,
    smoke_setting,
)
from vidgn.norms import GroupNorm3d

FEW = [Cell("gn_ws", 4), Cell("none", 32, "vgg16")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A grid of two cells and one seed; its folder."""
    folder = tmp_path_factory.mktemp("images")
    run_grid(FEW, seeds=1, setting=smoke_setting(), results=folder / "results", cache=folder / "cache")
    return folder


@pytest.mark.slow
def test_a_grid_writes_its_rates_and_its_runs(finished):
    results = finished / "results"
    names = {path.name for path in results.iterdir()}
    tuned = {f"tuning-{cell}-{rate}.json" for cell in ("gn_ws_b32", "vgg16_none_b32") for rate in RATES}
    assert names == tuned | {"gn_ws_b4_s0.json", "vgg16_none_b32_s0.json"}
    run = json.loads((results / "gn_ws_b4_s0.json").read_text())
    assert run["steps"] == 10  # 40 pictures, 4 per step, one epoch
    assert run["rate"] == chosen_rate(Cell("gn_ws"), results)
    assert 0 <= run["test_error"] <= 100
    vgg = json.loads((results / "vgg16_none_b32_s0.json").read_text())
    assert [row["percentiles"] == sorted(row["percentiles"]) for row in vgg["curves"]] == [True]


def test_a_run_that_is_lost_comes_out_the_same(finished):
    path = finished / "results" / "gn_ws_b4_s0.json"
    before = json.loads(path.read_text())
    path.unlink()
    run_grid(FEW, seeds=1, setting=smoke_setting(), results=finished / "results", cache=finished / "cache")
    assert json.loads(path.read_text()) == before


def test_the_rate_with_the_smallest_validation_error_is_chosen(tmp_path):
    assert chosen_rate(Cell("bn"), tmp_path) is None
    for rate, error in zip(RATES, (30, 20, 20, 40), strict=True):
        (tmp_path / f"tuning-bn_b32-{rate}.json").write_text(json.dumps({"val_error": error}))
    assert chosen_rate(Cell("bn"), tmp_path) == RATES[1]


def test_the_page_says_what_did_not_run(finished):
    write_page(finished / "results", page=finished / "images.md")
    page = (finished / "images.md").read_text()
    assert "| BN | None | " + " | ".join(["not run"] * len(BATCHES)) + " |" in page
    assert (finished / "figures" / "images.png").stat().st_size > 1000
    assert list(read_runs(finished / "results")) == ["gn_ws_b4", "vgg16_none_b32"]


def test_training_pictures_are_a_seeds_own_and_the_others_are_shared(tmp_path):
    one, other = (draw(smoke_setting(), seed=seed, cache=tmp_path) for seed in (0, 1))
    assert not torch.equal(one["train"][0], other["train"][0])
    assert torch.equal(one["test"][0], other["test"][0])
    assert one["val"][1].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_the_cells_are_those_of_the_paper():
    names = [cell.name for cell in cells()]
    assert len(names) == len(set(names)) == 20
    net = build(Cell("gn_ws", 4), setting=replace(Setting(), width=16))
    assert net.blocks[0].norm.__class__ is GroupNorm3d
    assert any("parametrizations" in name for name, _ in net.named_parameters()) is False


@pytest.mark.slow
def test_the_smoke_option_leaves_nothing(capsys):
    main(["--smoke"])
    assert "gn_ws_b4_s0: " in capsys.readouterr().out
