import json

import pytest

from experiments.grid import RESULTS, claimed, read_results, read_starts, run_once, write_json
from experiments.run import Cell
from experiments.settings import SETTING, digest
from experiments.table8 import jobs, run_grid
from experiments.tables import BEGIN, END, README, place, render


def test_the_readme_shows_the_numbers_of_the_files():
    text = README.read_text()
    assert place(text, render(read_results(RESULTS), read_starts(RESULTS))) == text, "run: python -m experiments.tables"


@pytest.mark.slow
def test_every_result_is_of_the_setting_that_the_code_has():
    runs = read_results(RESULTS)
    assert runs
    assert {run["setting"] for run in runs} == {digest(SETTING)}


def test_a_cell_of_table_8_is_named_like_its_preset():
    assert Cell("gn", 64, 4).name == "gn_t64_b4"
    assert Cell("gn", 32, 8, num_groups=2).name == "gn_g2_t32_b8"
    assert Cell("gn", 32, 8, channels=4).name == "gn_c4_t32_b8"


def test_seeds_come_one_after_the_other_then_relatives_then_groups():
    names = [(job.seed, job.cell.name) for job in jobs(2)]
    assert names[:3] == [(0, "bn_t32_b8"), (0, "gn_t32_b8"), (0, "bn_t32_b4")]
    assert names[8] == (1, "bn_t32_b8")
    assert names[16] == (0, "sync_bn_t32_b2")
    assert names[32] == (0, "gn_g8_t32_b4")
    assert len(names) == len(set(names)) == 42  # two seeds of 8 + 8 + 5 cells


def test_results_of_another_setting_are_refused(tmp_path):
    write_json(tmp_path / "bn_t32_b8_s0.json", {"setting": "0123456789ab"})
    with pytest.raises(ValueError, match="runs of another setting"):
        run_grid([], setting=SETTING, results=tmp_path, cache=tmp_path)


def test_a_piece_of_work_is_claimed_once(tmp_path):
    with claimed(tmp_path / "work") as first, claimed(tmp_path / "work") as second:
        assert (first, second) == (True, False)
    with claimed(tmp_path / "work") as again:
        assert again


def test_a_run_is_done_once_and_by_one_process(tmp_path):
    path, claim = tmp_path / "run.json", tmp_path / "claim"
    with claimed(claim):
        assert run_once(path, lambda: {"error": 1}, claim=claim) is None  # another one is at it
    assert not path.exists()
    written = run_once(path, lambda: {"error": 2}, claim=claim)
    assert written == json.loads(path.read_text())
    assert (written["error"], set(written["versions"])) == (2, {"python", "vidgn", "torch", "lightning", "numpy"})
    assert run_once(path, lambda: {"error": 3}, claim=claim) is None
    assert json.loads(path.read_text())["error"] == 2


def test_a_result_is_whole_or_not_there(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"number": object()})
    write_json(tmp_path / "b.json", {"number": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    assert json.loads((tmp_path / "b.json").read_text()) == {"number": 1}


def test_tables_need_their_place_in_the_text():
    with pytest.raises(ValueError, match="no place for the tables"):
        place("nothing here", "tables")
    assert place(f"a\n{BEGIN}old\n{END}b\n", "new\n") == f"a\n{BEGIN}new\n{END}b\n"


@pytest.mark.slow
def test_tables_compare_runs_of_the_same_seed():
    def run(cell, seed, top1, plain):
        tests = {"plain": {"video_top1": plain}, "precise": {"video_top1": top1}}
        return {"cell": cell, "seed": seed, "test": tests}

    runs = [
        *(run("bn_t32_b8", seed, value, value - 1) for seed, value in enumerate((80.0, 82.0, 84.0))),
        *(run("bn_t32_b4", seed, value, value) for seed, value in enumerate((78.0, 81.0, 81.0))),
    ]
    text = render(runs, {"gn": {"test": {"plain": {"video_top1": 96.66}}}})
    assert "| gn | 96.7 |" in text
    assert "| BN, precise statistics | 82.0 ± 5.0 (3) | 80.0 ± 4.3 (3) | not run | not run |" in text
    # differences -2, -1, -3: mean -2, half 4.3027 * 1 / sqrt(3) = 2.484, t = 3.4641 with 2 degrees: p = 0.0742
    assert "| BN, 8 to 4 clips | -2.0 | -4.5 to +0.5 | 0.074 | 3 | -1.2 |" in text
    assert "| bn_t32_b8 | +1.0 | +1.0 to +1.0 | < 0.001 | 3 |  |" in text
    assert "| GN, 8 to 4 clips | not run | | | 0 | -0.2 |" in text
