import pytest

from vidgn.training.cpu_time import training_hours
from vidgn.training.own_data.rule import MINUTES, Facts, ImageWeights, choose, head_minutes

PART = ImageWeights("part.pth", "res4", True, "bn")
WHOLE = ImageWeights("torchvision", "res5", False, "bn")


def facts(**changes):
    usual = {
        "num_train": 600, "num_test": 200, "num_classes": 20, "num_frames": 40, "short_side": 240, "num_threads": 2,
        "has_gpu": False, "weights": PART,
    }  # fmt: skip
    return Facts(**usual | changes)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        # A few hundred short videos on a CPU: the head alone, every frame range of the whole video.
        ({}, {"model": "frames_r50", "model.last": "res4", "model.stride_1x1": True, "norm": "frozen_bn",
              "fit_head": True, "clip_rule": "segments", "num_crops": "full", "span": 40}),
        # Two classes of long surveillance videos: clips of a part of the video each.
        ({"num_train": 20, "num_test": 8, "num_classes": 2, "num_frames": 900},
         {"fit_head": True, "clip_rule": "linspace", "span": 64, "num_clips": 8}),
        # Group-norm weights keep their norm.
        ({"weights": ImageWeights("gn.pth", "res5", False, "gn")}, {"norm": "gn", "fit_head": True}),
        # Many videos and a GPU: the whole net. Weights without res5 are no start for it.
        ({"num_train": 20_000, "has_gpu": True, "weights": WHOLE, "num_frames": 300},
         {"model": "i3d_r50", "optim": "finetune", "clip_len": 32, "span": 64, "crop": 224}),
        ({"num_train": 20_000, "has_gpu": True, "num_frames": 300}, {"fit_head": True}),
        # No weights on a CPU: the narrow net of the package; on a GPU the options of the file.
        ({"weights": None}, {"init": "motions", "optim": "finetune", "model.width": None, "span": 32}),
        ({"weights": None, "num_frames": 5}, {"clip_len": 8, "span": 8}),
        # An option that only steps have is given: no fit; the net of the package on a CPU, a whole net on a GPU.
        ({"by_steps": True}, {"init": "motions", "fit_head": None, "optim": "finetune"}),
        ({"by_steps": True, "has_gpu": True, "weights": WHOLE}, {"model": "i3d_r50", "optim": "finetune"}),
        ({"by_steps": True, "epochs": 3, "weights": None}, {"init": "motions", "epochs": 3, "crop": 112}),
        # An inflated net halves the image as torchvision's: other weights are for frames_r50.
        ({"num_train": 20_000, "has_gpu": True, "weights": WHOLE._replace(stride_1x1=True)}, {"fit_head": True}),
    ],
)  # fmt: skip
def test_options_follow_from_the_facts(changes, wanted):
    options = choose(facts(**changes)).options
    assert {name: options.get(name) for name in wanted} == wanted


def test_a_gpu_with_unsuitable_weights_has_the_options_of_the_file_for_steps():
    chosen = choose(facts(by_steps=True, has_gpu=True))
    assert chosen.options == {}
    assert chosen.reasons == ("start: random weights, since part.pth are not the weights of a whole net",)


def test_a_gpu_without_weights_has_the_options_of_the_file():
    chosen = choose(facts(weights=None, has_gpu=True))
    assert chosen.options == {}
    assert "random weights" in chosen.reasons[0]


@pytest.mark.parametrize("num_train", [10, 100, 600, 1_000])
@pytest.mark.parametrize("weights", [PART, WHOLE])
def test_descriptors_take_the_minutes_that_are_allowed(num_train, weights):
    options = choose(facts(num_train=num_train, num_test=num_train // 3, weights=weights)).options
    minutes = head_minutes(
        facts(num_train=num_train, num_test=num_train // 3), num_clips=options["num_clips"], crop=options["crop"],
        last=weights.last,
    )  # fmt: skip
    assert minutes <= MINUTES
    assert options["span"] % options["clip_len"] == 0


def test_less_data_allows_larger_views():
    crops = [choose(facts(num_train=count)).options["crop"] for count in (100, 600, 4_000)]
    assert crops == sorted(crops, reverse=True)
    assert crops[0] > crops[-1]


@pytest.mark.parametrize("num_train", [20, 600, 5_000])
def test_the_narrow_net_trains_within_the_time(num_train):
    options = choose(facts(num_train=num_train, weights=None)).options
    hours = training_hours(
        num_videos=num_train, epochs=options["epochs"], width=16, clip_len=options["clip_len"],
        crop=options["crop"], num_threads=2,
    )  # fmt: skip
    assert 60 * hours <= MINUTES


def test_reasons_say_start_training_and_clips():
    reasons = choose(facts()).reasons
    assert [reason.partition(":")[0] for reason in reasons] == ["start", "trained", "clips"]
    assert "600 training videos are few" in reasons[1]
    assert "minutes on 2 cores" in reasons[1]
