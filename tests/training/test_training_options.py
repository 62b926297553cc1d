"""Options of training that are off by default: in the list, in effect, and part of the job."""

import csv

import pytest
import torch
from hydra import compose, initialize_config_dir

from vidgn.models.drop_path import DropPathSum
from vidgn.runs.command_line import CONFIGS
from vidgn.training.drop_path import DropPathDraws

# Off, as the paper trains.
OFF = {
    "loss": "cross_entropy", "label_smoothing": 0.0, "class_weights": None, "balanced": False, "drop_path": 0.0,
    "mixup": 0.0, "cutmix": 0.0, "videomix": 0.0, "randaugment": 0.0, "trivialaugment": False, "color_jitter": 0.0,
    "grayscale": 0.0, "lighting": 0.0, "erasing": 0.0, "resized_crop": 0.0, "speed_jitter": 0.0, "reverse": 0.0,
    "ema": None, "swa": None,
    "freeze": [], "train_only": None, "early_stop": None, "best_by": "error",
}  # fmt: skip


@pytest.mark.parametrize("preset", [None, "gn_t64_b4", "bn_t32_b8"])
def test_every_option_is_listed_and_off_by_default_and_in_the_papers_presets(preset):
    words = [] if preset is None else [f"preset={preset}", "data.root=/k400"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=words)
    assert {name: config[name] for name in OFF} == OFF
    assert (config.optim.name, config.optim.layer_decay) == ("sgd", 1.0)
    assert set(config.optim.rates.values()) == {1.0}


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_frozen_stages_keep_their_weights_and_their_statistics(run, tiny, tmp_path):
    words = [*tiny, "norm=bn", "trainer.limit_val_batches=1", "test=false", "optim=adamw", "optim.layer_decay=0.75"]
    for name, extra in (("start", ["trainer.max_steps=1", "train_only=head"]), ("end", ["freeze=[stem,res2]"])):
        outcome = run("train", *words, *extra, f"hydra.run.dir={tmp_path / name}")
        assert outcome.status == 0, outcome.err
    start, end = weights(tmp_path / "start"), weights(tmp_path / "end")
    moved = {key for key in end if not torch.equal(start[key], end[key])}
    assert not {key for key in moved if key.startswith(("net.blocks.0.", "net.blocks.1."))}
    assert {"net.blocks.3.res_blocks.0.branch2.conv_a.weight", "net.blocks.6.proj.weight"} <= moved
    assert "net.blocks.3.res_blocks.0.branch2.norm_a.running_mean" in moved


@pytest.mark.slow
def test_a_run_with_all_of_them_ends_early_and_another_job_is_refused(run, tiny, tmp_path):
    words = [
        *tiny, "epochs=4", "label_smoothing=0.1", "drop_path=0.2", "class_weights=balanced", "balanced=true",
        "loss=focal", "early_stop=1", "best_by=loss", "optim.lr=0.000001", "optim.rates.head=0", "test=false",
        f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    outcome = run("train", *words, "best_by=top5")  # top-5 of a net that hardly learns stays
    assert outcome.status == 0, outcome.err
    assert "note: early_stop=1: 1 validations without a better val/top5" in outcome.out + outcome.err
    with (tmp_path / "metrics.csv").open() as file:
        assert len([row for row in csv.DictReader(file) if row["val/loss"]]) == 2
    outcome = run("train", *words, "best_by=top5", "label_smoothing=0.2")
    assert outcome.status == 2
    assert "belongs to another job: label_smoothing 0.1 -> 0.2; give its" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("label_smoothing=1", "label_smoothing (1) must be in [0, 1)"),
        ("drop_path=1", "drop_path (1) must be in [0, 1)"),
        ("freeze=[stm]", "freeze (stm) must be one of stem, res2"),
        ("train_only=heads", "train_only (heads) must be one of stem"),
        ("early_stop=0", "early_stop (0) must be a number of validations"),
        ("best_by=top1", "best_by (top1) must be one of error, loss, top5"),
        ("class_weights=[1,2]", "class_weights ([1.0, 2.0]) must be 12 numbers"),
        ("optim.name=adamw", "use the recipe optim=adamw"),
    ],
)
def test_a_wrong_value_is_one_sentence(run, tiny, tmp_path, word, message):
    outcome = run("train", *tiny, word, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert message in outcome.err


@pytest.mark.slow
def test_what_is_dropped_depends_on_the_video_and_not_on_its_company():
    class Batch:
        def __init__(self, videos):
            self.videos = torch.tensor(videos)
            self.clips = torch.zeros(len(videos), 2, 1)

    class Trainer:
        current_epoch = 3

    def draws(videos):
        paths = [DropPathSum(0.1), DropPathSum(0.2)]
        DropPathDraws(paths, seed=7).on_train_batch_start(Trainer(), None, Batch(videos), 0)
        return torch.stack([path.draws for path in paths], 1).view(len(videos), 2, 2)

    together, alone = draws([5, 2]), draws([2])
    assert torch.equal(together[1], alone[0])
    assert len(set(together.flatten().tolist())) == 8


@pytest.mark.slow
def test_a_run_with_mixed_clips_learns_from_soft_labels_and_draws_its_first_batch(run, tiny, tmp_path):
    words = [
        *tiny, "mixup=0.8", "cutmix=1", "randaugment=5", "erasing=0.5", "color_jitter=0.4", "resized_crop=0.3",
        "trainer.limit_val_batches=1", "test=false", f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "batch.png").stat().st_size > 1000
    assert run("train", *tiny, "mixup=0.8", "batch=3", f"hydra.run.dir={tmp_path / 'odd'}").status == 2
