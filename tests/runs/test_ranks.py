"""Any number of ranks and videos per step gives the same bits, each view is scored once, and a test goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidgn.data import views as views_module
from vidgn.data.batches import VideoViews
from vidgn.data.loading.sampler import ShardSampler
from vidgn.data.views import ViewDataset
from vidgn.evaluation.journal import Journal
from vidgn.scores.predictions import Begun, Prediction

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_ranks_batches_and_interruptions_change_no_bit(trained, cache, tmp_path):
    """1 and 2 ranks, 1 and 3 videos per step, 1 rank after 2 and 2 after 1; all digits of the scores."""
    done = subprocess.run(
        [
            sys.executable, "benchmarks/ranks.py", "--json", "--ranks", "1", "2", "--batch", "1", "3",
            "--ckpt", str(trained / "checkpoints" / "best.ckpt"), "--folder", str(tmp_path),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "VIDGN_CACHE": str(cache)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = {"videos": 25, "tests": 6, "identical": 6, "resumed": 2, "scored_twice": 0}
    assert json.loads(done.stdout.splitlines()[-1]) == counts


@pytest.mark.slow
def test_a_video_that_no_rank_reads_ends_the_test(run, trained, tmp_path, monkeypatch):
    real = ShardSampler.__iter__
    monkeypatch.setattr(ShardSampler, "__iter__", lambda self: (item for item in real(self) if item != 7))
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 1
    assert "12 test videos but 11 predictions, without rows [7]" in outcome.err
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.slow
def test_a_video_that_is_read_twice_ends_the_test(run, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(ShardSampler, "__iter__", lambda self: iter([7, *range(11)]))
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 1
    assert "videos [7] of the manifest were scored more than once" in outcome.err
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("views", "message"),
    [
        (lambda found: found[1:], "video 0 of the manifest: 1 views came instead of 2"),
        (lambda found: [*found, found[0]], "video 0 of the manifest: more than 2 views came"),
    ],
)
def test_a_view_that_is_missing_or_double_ends_the_test(run, trained, tmp_path, monkeypatch, views, message):
    real = VideoViews.views
    monkeypatch.setattr(VideoViews, "views", lambda self: iter(views(list(real(self)))))
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.slow
def test_a_test_in_pieces_gives_the_same_bits_and_goes_on_between_them(run, trained, tmp_path, monkeypatch):
    """Three clips of eight frames: one piece, or three of them; interrupted in the third piece of the fourth video."""
    words = (f"ckpt={trained}/checkpoints/best.ckpt", "num_clips=3", "num_crops=3", "view_batch=2")
    assert run("eval", *words, f"hydra.run.dir={tmp_path / 'whole'}").status == 0
    monkeypatch.setattr(views_module, "PIECE_FRAMES", 8)
    words = (*words, f"hydra.run.dir={tmp_path / 'pieces'}")
    with monkeypatch.context() as patch:
        real, left = Journal.add_begun, iter(range(8))

        def add_begun(self: Journal, begun: Begun) -> None:
            real(self, begun)
            if next(left) == 7:
                raise OSError("interrupted")

        patch.setattr(Journal, "add_begun", add_begun)
        assert "interrupted" in run("eval", *words).err
    read, getitem = [], ViewDataset.__getitem__
    monkeypatch.setattr(ViewDataset, "__getitem__", lambda self, item: (read.append(item), getitem(self, item))[1])
    outcome = run("eval", *words)
    assert outcome.status == 0, outcome.err
    assert "resuming the test: 3 of 12 videos are scored, 1 in part" in outcome.out
    assert read == list(range(3 * 3 + 2, 3 * 12))
    names = [tmp_path / name / "predictions.csv" for name in ("whole", "pieces")]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert not list((tmp_path / "pieces").glob("*.jsonl"))


@pytest.mark.slow
def test_a_video_of_the_journal_that_lacks_views_ends_the_test(run, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(Journal, "read", lambda self: {0: Prediction(0, 0, (1.0,) * 12, None, 1)})
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 1
    assert "video 0 of the manifest has 1 scored views instead of 2" in outcome.err
    assert not (tmp_path / "predictions.csv").exists()
