"""The search for a recipe on few videos: its folds, what a run is named, and the page."""

import numpy as np
import pytest
import torch

from experiments.real_features import Clips
from experiments.small_data import FOLDS, PLAIN, RESULTS, Recipe, Setting, difference, fold_of, table, train, validated


def clips(count, seed):
    """Features of two classes that a linear classifier tells apart, two views each."""
    labels = np.arange(count) % 2
    features = np.random.default_rng(seed).normal(labels[:, None, None, None, None, None], 0.3, (count, 2, 4, 2, 3, 3))
    return Clips(
        features.astype(np.float32), torch.from_numpy(labels), np.array([f"g{row // 4}" for row in range(count)])
    )


def test_recordings_are_whole_in_folds_of_about_one_size():
    groups = np.repeat([f"g{number}" for number in range(12)], [5, 1, 4, 2, 3, 3, 6, 2, 1, 4, 2, 3])
    folds = fold_of(groups)
    assert all(len(set(folds[groups == name])) == 1 for name in set(groups))
    assert np.bincount(folds, minlength=FOLDS).min() >= 8


def test_a_training_learns_and_its_average_differs_from_its_weights():
    run = train(torch.nn.Identity(), clips(64, 0), clips(32, 1), recipe=Recipe({"lr": 1.0}, head_only=True), seed=0)
    assert run["trained"]["top1"] == 100
    assert run["steps"] == 32
    assert run["trained"]["loss"] != run["ema"]["loss"]
    assert len(run["trained"]["right"]) == 32


def test_a_run_with_a_file_is_not_repeated_and_scores_both_kinds_of_weights(tmp_path):
    folder = tmp_path / "search"
    folder.mkdir()
    for fold in range(2):
        (folder / f"{PLAIN[0].name}_f{fold}.json").write_text(
            '{"trained": {"right": "1100", "loss": 1.0}, "ema": {"right": "1110", "loss": 0.5}}'
        )
    setting = Setting(None, clips(8, 0), tmp_path)
    assert validated(setting, PLAIN[0], folds=2) == (50.0, 1.0)
    assert validated(setting, PLAIN[0]._replace(ema=0.99), folds=2) == (25.0, 0.5)


def test_a_gain_of_one_recording_is_within_chance():
    gains, groups = np.repeat([1.0, 0.0, 0.0, 0.0], 5), np.repeat(list("abcd"), 5)
    mean, low, high = difference(gains, groups)
    assert (mean, low) == (25.0, 0.0)
    assert high == pytest.approx(75, abs=5)


def test_the_page_shows_the_table_of_the_results():
    assert table(RESULTS) in (RESULTS.parents[1] / "README.md").read_text("utf-8")
