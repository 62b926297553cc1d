"""The miniature of Tables 4 to 7: a run is measured and repeatable, and the table says what is missing."""

from experiments.detection import ARMS, run, table


def test_a_run_is_a_function_of_its_seed():
    sizes = {"images": 2, "seed": 3, "body": None, "epochs": 1, "train": 4, "test": 2}
    first, again = run(ARMS["gn_random"], **sizes), run(ARMS["gn_random"], **sizes)
    assert first["steps"] == 2
    assert {name: first[name] for name in ("loss_last", "box_ap", "mask_ap")} == {
        name: again[name] for name in ("loss_last", "box_ap", "mask_ap")
    }


def test_the_table_says_what_was_not_run_and_what_diverged():
    rows = [
        {"arm": "gn", "images": 2, "seed": seed, "box_ap": value, "mask_ap": 2.0}
        for seed, value in enumerate((10.0, 20.0, None))
    ]
    lines = table([*rows, {"arm": "bn", "images": 1, "seed": 0, "box_ap": None, "mask_ap": None}]).splitlines()
    assert "| gn | 15.0 (10.0 to 20.0, n = 2, 1 diverged) | 2.0 (2.0 to 2.0, n = 3) | not run | not run |" in lines
    assert "| bn | not run | not run | all 1 diverged | all 1 diverged |" in lines
