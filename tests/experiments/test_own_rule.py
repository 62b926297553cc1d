"""The made sets that the default of `data=folder` is checked on, and the bookkeeping of their results."""

import json

import numpy as np
import pytest

from experiments import made_sets, own_rule


def test_a_person_looks_alike_in_all_actions_and_unlike_others():
    walk, wave, other = (made_sets.figure(action, key=key) for action, key in (("walk", (0, 1)), ("wave", (0, 1)),
                                                                              ("walk", (0, 2))))  # fmt: skip
    assert walk.shape == (40, 96, 128, 3)
    assert walk.dtype == np.uint8
    grounds = [np.median(frames, axis=(0, 1, 2)) for frames in (walk, wave, other)]
    assert np.abs(grounds[0] - grounds[1]).max() < 10
    assert np.abs(grounds[0] - grounds[2]).max() > 20
    assert np.array_equal(walk, made_sets.figure("walk", key=(0, 1)))


def test_every_action_moves_and_only_two_travel():
    for action in made_sets.ACTIONS:
        frames = made_sets.figure(action, key=(0, 3)).astype(float)
        background = np.median(frames, 0)
        moving = np.abs(frames - background).max(-1) > 40  # (T, H, W)
        columns = [np.flatnonzero(frame.any(0)).mean() for frame in moving if frame.any()]
        assert len(columns) > 20, action
        assert (max(columns) - min(columns) > 15) == (action in ("run", "walk")), action


def test_only_an_event_has_something_that_crosses():
    quiet = made_sets.yard(has_event=False, place=(0, 1), day=(0, 0, 1, 0)).astype(float)
    event = made_sets.yard(has_event=True, place=(0, 1), day=(0, 0, 1, 0)).astype(float)
    different = np.abs(event - quiet).max(-1) > 30
    shown = different.reshape(250, -1).sum(1)
    assert quiet.shape == (250, 96, 128, 3)
    assert 30 < (shown > 0).sum() < 90  # frames of 250
    assert shown.max() < 200  # pixels of 12,288


@pytest.fixture
def commands(monkeypatch):
    """Commands that were called; each leaves what a run leaves."""
    called = []

    def run(arguments, weights):
        called.append((arguments[0], weights))
        if arguments[0] == "probe":
            probes = [{"classifier": name, "test": top1, "interval": [1, 99]} for name, top1 in (("k", 40), ("C", 60))]
            return f"a line\n{json.dumps({'probes': probes})}\n"
        folder = next(text.partition("=")[2] for text in arguments if text.startswith("hydra.run.dir="))
        own_rule.Path(folder).mkdir()
        metrics = {"video_top1": 75.0, "intervals": {"video_top1": [50, 90]}, "videos_expected": 16}
        (own_rule.Path(folder) / "metrics.json").write_text(json.dumps(metrics))
        (own_rule.Path(folder) / "config.yaml").write_text("chosen: {init: /a/b.pth, crop: 64}\n")
        return ""

    monkeypatch.setattr(own_rule, "_vidgn", run)
    monkeypatch.setattr(own_rule, "SETS", {"yard": lambda root, seed: root})
    return called


def test_each_cell_is_run_once_and_the_better_probe_counts(commands, tmp_path, capsys):
    words = ["run", "--folder", str(tmp_path), "--seeds", "0", "--out", str(tmp_path / "results.json")]
    for _ in range(2):
        own_rule.main([*words, "--weights", str(tmp_path / "w.pth")])
    assert [name for name, _ in commands] == ["train", "probe", "train", "probe"]
    assert [weights is None for _, weights in commands] == [False, False, True, True]
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    assert cells["yard_none_s0"]["probe"]["top1"] == 60
    assert cells["yard_none_s0"]["default"]["chosen"] == {"init": "b.pth", "crop": 64}
    own_rule.main(["table", "--out", str(tmp_path / "results.json")])
    out = capsys.readouterr().out
    assert "| yard | no weights | 0 | 75.0 % (50 to 90) | 60.0 % (1 to 99) | 50.0 % | " in out
