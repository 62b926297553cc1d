"""The commands of docs/howto: every option of every line exists, and the first line of a question is a run."""

import json
import re
import shlex
from pathlib import Path

import pytest

from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.runs.command_line import check_complete, check_words, full_names

PAGES = Path(__file__).parents[1] / "docs" / "howto"
FAST = (
    "data.num_workers=0", "epochs=1", "batch=2", "crop=32", "clip_len=8", "span=8", "num_clips=1", "num_crops=1",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.limit_train_batches=1",
    "trainer.log_every_n_steps=1",
)  # fmt: skip


def lines(page, command):
    """Return the options of a command in every line of a page that has it."""
    text = (PAGES / f"{page}.md").read_text().replace("\\\n", " ")
    words = [
        shlex.split(line, comments=True) for line in re.findall(rf"^    vidgn {command} (.*)$", text, re.MULTILINE)
    ]
    assert words, f"{page} has no vidgn {command}"
    return words


TRAIN = [(page, words) for page in ("unbalanced", "small-data", "several-labels", "train-the-head")
         for words in lines(page, "train")]  # fmt: skip


@pytest.mark.parametrize(("page", "words"), TRAIN, ids=[f"{page} {' '.join(words)}" for page, words in TRAIN])
def test_the_options_of_a_line_exist(page, words):
    check_complete(check_words("train", full_names(words)))


def test_the_search_of_the_page_is_one():
    pytest.importorskip("optuna")
    from vidgn.training.search.search import read_job

    (words,) = lines("search", "search")
    options = words[: words.index("--trials")]
    job = read_job(options, folder=Path("s"), prune=True, seed=0)
    assert set(job.space) == {"optim.lr", "norm"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of short videos."""
    root = tmp_path_factory.mktemp("howto")
    for split in ("train", "val"):
        for number, label in enumerate(("move_up", "zoom_in", "move_up", "zoom_in")):
            path = root / split / label / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            key = (len(split), number)
            write_video(path, draw_video(label, spec=MotionsSpec(num_frames=8, side=36), key=key))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("page", ["unbalanced", "small-data", "train-the-head"])  # several-labels: test_several_labels
def test_the_first_line_of_a_page_is_a_run(run, folder, tmp_path, page):
    words = [word.replace("DIR", str(folder)).replace("CKPT", "motions") for word in lines(page, "train")[0]]
    start = [] if any(word.startswith("init=") for word in words) else ["model.width=8"]
    outcome = run("train", *words, *start, *FAST, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 <= metrics["video_top1"] <= 100
    assert set(metrics) > {"mean_class", "intervals"}
