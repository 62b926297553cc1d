"""Norms with regularizers: what each run has, what the table compares."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from experiments.clips import ClipForm
from experiments.grid import write_json
from experiments.regularizers import (
    COMPARED,
    REGULARIZERS,
    RESULTS,
    SETUP,
    Run,
    do,
    draw,
    plain_regularizer,
    read_all,
    read_rates,
    runs,
    table,
    train,
    training_loader,
)
from experiments.videos import make_videos

RATES = {"bn": 0.3, "gn": 0.1, "gn_ws": 0.4}
BN, GN = COMPARED[:2]
TINY = replace(SETUP, videos=replace(SETUP.videos, classes=SETUP.videos.classes[:2], train=2, val=1), epochs=1)


@pytest.mark.slow
def test_every_method_meets_every_regularizer_at_both_batches_with_its_own_rate():
    todo = list(runs(SETUP, RATES))
    assert len({run.file_name for run in todo}) == len(todo) == 3 * 11 * 2 * 3
    assert Counter(run.rate for run in todo) == dict.fromkeys(RATES.values(), 66)


@pytest.mark.parametrize("texts", [["bn=0.1", "gn=0.2"], ["bn=0.1", "gn=0.2", "ln=0.3"]])
def test_a_rate_for_each_method_is_asked_for(texts):
    with pytest.raises(ValueError, match=r"--rates bn=0\.1 gn=0\.2.* must give one rate for each of bn, gn, gn_ws"):
        read_rates(texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "mixup", "randaugment", "erasing", "label_smoothing"])
def test_an_augmentation_changes_what_the_net_sees_and_nothing_else_does(name):
    videos = make_videos(replace(TINY.videos, train=8), seed=0, split="train")
    form = ClipForm(4, (16,), 32)
    run, without = (Run(BN, regularizer, 2, 0, 0.1) for regularizer in (name, "none"))
    batches, plain = (list(training_loader(videos, run=one, form=form)) for one in (run, without))
    equal = all(torch.equal(a.clips, b.clips) for a, b in zip(batches, plain, strict=True))
    assert equal == (name in ("none", "label_smoothing"))
    assert (batches[0].targets is not None) == (name == "mixup")
    again = list(training_loader(videos, run=run, form=form))
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(batches, again, strict=True))


def test_the_file_of_a_run_names_what_was_on():
    assert plain_regularizer("none") == {}
    assert plain_regularizer("label_smoothing+erasing") == {"erasing": 0.25, "label_smoothing": 0.1}
    assert all(plain_regularizer(name) for name in REGULARIZERS if name != "none")


@pytest.mark.parametrize("name", ["drop_path", "ema", "dropout", "mixup+drop_path"])
def test_a_run_is_done_once_and_differs_from_the_plain_one(tmp_path, name):
    setup = replace(TINY, videos=replace(TINY.videos, train=4, val=4), clip_len=8, span=16, epochs=2)
    do(Run(GN, name, 2, 0, 0.1), setup=setup, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    do(Run(GN, name, 2, 0, 0.1), setup=setup, folder=tmp_path)
    assert path.read_bytes() == before
    numbers = read_all(tmp_path)["gn", name, 2][0]
    assert 0 <= numbers["train_error"] <= 100
    assert 0 <= numbers["val_error"] <= 100


@pytest.mark.slow
def test_the_result_is_a_function_of_the_run():
    setup = replace(TINY, clip_len=8, span=16)
    run = Run(GN, "mixup+drop_path", 2, 0, 0.1)
    assert train(run, setup=setup) == train(run, setup=setup)


@pytest.mark.slow
def test_the_table_compares_runs_of_the_same_seed(tmp_path):
    for seed, (without, with_it) in enumerate(((50.0, 40.0), (60.0, 52.0))):
        for name, error in (("none", without), ("mixup", with_it)):
            run = Run(BN, name, 8, seed, 0.1)
            numbers = {"method": "bn", "regularizer": name, "batch": 8, "seed": seed}
            write_json(tmp_path / run.file_name, {**numbers, "train_error": 1.0, "val_error": error})
    lines = table(read_all(tmp_path)).splitlines()
    assert lines[2] == "| none | 1.0, 55.0 (2) |  | - | - | - | - |"
    assert lines[4] == "| mixup | 1.0, 46.0 (2) | -9.0 ± 12.7 | - | - | - | - |"
    draw(read_all(tmp_path), tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_the_table_of_the_results():
    assert table(read_all(RESULTS)) in (RESULTS.parents[1] / "README.md").read_text("utf-8")
