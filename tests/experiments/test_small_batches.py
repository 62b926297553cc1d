"""The comparison at small batches: which runs there are, how a rate is chosen, what the table shows."""

from collections import Counter
from dataclasses import replace

import pytest

from experiments.grid import write_json
from experiments.small_batches import (
    METHODS,
    RESULTS,
    SETUP,
    Run,
    compared_runs,
    do,
    draw,
    plain,
    read_accuracies,
    table,
    tuned_rates,
    tuning_runs,
)

THREE_RATES = replace(SETUP, rates=(0.12, 0.24, 0.48))


def write(run, folder, **numbers):
    write_json(folder / run.file_name, {"method": run.method.name, "batch": run.batch, "seed": run.seed, **numbers})


@pytest.mark.slow
def test_every_method_is_tuned_with_the_same_runs_on_seeds_of_its_own():
    runs = list(tuning_runs(SETUP))
    assert Counter(run.method.name for run in runs) == dict.fromkeys(("bn", "gn", "gn_ws", "bcn_ws"), len(SETUP.rates))
    assert not {run.seed for run in runs} & set(SETUP.seeds)
    assert {run.batch for run in runs} == {8}


@pytest.mark.slow
def test_the_rate_with_the_least_error_is_compared_and_of_equal_ones_the_lower(tmp_path):
    errors = {"bn": (30, 20, 10), "gn": (20, 10, 10), "gn_ws": (10, 10, 10), "bcn_ws": (5, 6, 7)}
    for run in tuning_runs(THREE_RATES):
        write(run, tmp_path, val_error=errors[run.method.name][THREE_RATES.rates.index(run.rate)])
    rates = tuned_rates(tmp_path, THREE_RATES)
    assert rates == {"bn": 0.48, "gn": 0.24, "gn_ws": 0.12, "bcn_ws": 0.12}
    runs = list(compared_runs(SETUP, rates))
    assert Counter((run.method.name, run.batch) for run in runs) == {
        (name, batch): 5 for name in errors for batch in (8, 4, 2, 1)
    }
    assert all(run.rate == rates[run.method.name] for run in runs)


@pytest.mark.slow
def test_the_table_has_mean_interval_and_number_of_seeds_and_compares_equal_seeds(tmp_path):
    for seed, (bn, standardized) in enumerate(((60.0, 70.0), (64.0, 76.0))):
        write(Run(METHODS[0], 8, seed, 0.1), tmp_path, video_top1=bn)
        write(Run(METHODS[2], 8, seed, 0.1), tmp_path, video_top1=standardized)
    write(Run(METHODS[2], 1, 0, 0.1), tmp_path, video_top1=70.0)
    write(Run(METHODS[2], 1, 100, 0.1), tmp_path, video_top1=99.0)  # tuning is not shown
    lines = table(tmp_path, SETUP).splitlines()
    assert lines[2:5] == [
        "| bn | 62.0 ± 25.4 (2) | - | - | - |",
        "| gn | - | - | - | - |",
        "| gn_ws | 73.0 ± 38.1 (2) | - | - | 70.0 (1) |",
    ]
    assert lines[7] == "| gn_ws minus bn | +11.0 ± 12.7 | - | - | - |"
    draw(read_accuracies(tmp_path, SETUP), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_the_table_of_the_results():
    assert table(RESULTS, SETUP) in (RESULTS.parents[1] / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_results_of_another_setup_are_refused(tmp_path):
    run = Run(METHODS[0], 8, 0, 0.12)
    write(run, tmp_path, setup=plain(replace(SETUP, width=16)))
    with pytest.raises(ValueError, match="was made with another setup; give another folder as --results"):
        do(run, setup=SETUP, folder=tmp_path)
