"""Which options suit a data set and a machine: a function from facts to options, without reading anything.

    image weights at hand, and a CPU or few videos     the classifier alone, on a net that sees every frame
    image weights at hand, a GPU, many videos          fine-tuning of the whole net
    no weights, a CPU                                  `init=motions`, the narrow net that comes with the package,
                                                       fine-tuned on small clips, as long as the time allows
    no weights, a GPU                                  the options of configs/train.yaml

`MINUTES`, `MANY_VIDEOS` and the order of views are estimates; docs/own-videos.md says what was measured.
"""

from typing import Any, Literal, NamedTuple

from vidgn.training.cpu_time import RATE, training_hours

MINUTES = 12.0  # of computing that the rule allows itself on a CPU
MANY_VIDEOS = 2_000  # training videos from which on a GPU fine-tunes the whole net
LONG_FRAMES = 96  # frames from which on a video is tested by clips of a part of it each
_SEGMENTS = 8  # frames of a clip
_FRAME_MACS = {"res4": 3.27e9, "res5": 4.09e9}  # multiply-adds of ResNet-50 on 224 x 224 px, up to this stage
_VIEWS = (
    (4, 140),
    (2, 140),
    (2, 112),
    (1, 140),
    (1, 112),
    (1, 84),
    (1, 64),
)  # clips of a short video, crop; best first
_ASPECT = 4 / 3  # of most videos
_NARROW = ((32, 112), (16, 112), (16, 64), (8, 64), (8, 32))  # frames, crop of a narrow net; best first
_NARROW_WIDTH = 16  # channels of the stem of init=motions
_EPOCHS = (100, 60, 30, 15)


class ImageWeights(NamedTuple):
    """Weights of an image net that are at hand.

    Attributes:
        init: value of the option `init`.
        last: last stage that the file has, res4 or res5.
        stride_1x1: where its stages halve the image.
        norm: of its layers.
    """

    init: str
    last: Literal["res4", "res5"]
    stride_1x1: bool
    norm: Literal["bn", "gn"]


class Facts(NamedTuple):
    """What the rule is a function of.

    Attributes:
        num_train: training videos.
        num_test: test videos.
        num_classes: classes.
        num_frames: of a typical video (median).
        short_side: of a typical video (pixels).
        num_threads: that compute.
        has_gpu: whether the run uses one.
        weights: at hand; None: none.
        by_steps: whether the user gave an option that only steps of training have.
        epochs: that the user gave; None: the rule chooses.
    """

    num_train: int
    num_test: int
    num_classes: int
    num_frames: int
    short_side: int
    num_threads: int
    has_gpu: bool
    weights: ImageWeights | None
    by_steps: bool = False
    epochs: int | None = None


class ChosenOptions(NamedTuple):
    """Options by name, and in a few lines why they are these."""

    options: dict[str, Any]
    reasons: tuple[str, ...]


def choose(facts: Facts) -> ChosenOptions:
    """Return the options for a data set and a machine.

    >>> facts = Facts(num_train=60, num_test=20, num_classes=3, num_frames=40, short_side=240, num_threads=2,
    ...               has_gpu=False, weights=ImageWeights("resnet50.pth", "res5", False, "bn"))
    >>> choose(facts).options["fit_head"], choose(facts).options["clip_rule"]
    (True, 'segments')
    """
    if facts.weights is None:
        return _from_motions(facts, why="no image weights are at hand")
    is_whole = facts.weights.last == "res5" and not facts.weights.stride_1x1
    if facts.has_gpu and is_whole and (facts.by_steps or facts.num_train >= MANY_VIDEOS):
        return _fine_tune(facts, facts.weights)
    if facts.by_steps and facts.has_gpu:
        return _from_motions(facts, why=f"{facts.weights.init} are not the weights of a whole net")
    if facts.by_steps:
        return _from_motions(facts, why="steps of a net with image weights are slow without a GPU")
    return _fit_head(facts, facts.weights)


def head_minutes(facts: Facts, *, num_clips: int, crop: int, last: str) -> float:
    """Estimate the minutes on a CPU that descriptors of all training and test videos take."""
    side = crop * 8 / 7  # of the test
    macs = _FRAME_MACS[last] * (side / 224) ** 2 * _ASPECT
    views = num_clips * (2 * facts.num_train + facts.num_test)  # training views are mirrored, too
    return views * _SEGMENTS * macs / (RATE * facts.num_threads) / 60


def _fit_head(facts: Facts, weights: ImageWeights) -> ChosenOptions:
    """Fit the classifier on the descriptors of a frozen net, in the largest views that the time allows."""
    is_long = facts.num_frames > LONG_FRAMES
    ladder = ((10, 196), (8, 140), *((clips, crop) for clips, crop in _VIEWS if not is_long or clips > 1))
    ladder = ladder[0 if facts.has_gpu else 1 if is_long else 2 :]
    fitting = [
        (clips, crop) for clips, crop in ladder
        if facts.has_gpu or head_minutes(facts, num_clips=clips, crop=crop, last=weights.last) <= MINUTES
    ]  # fmt: skip
    num_clips, crop = fitting[0] if fitting else ladder[-1]
    minutes = head_minutes(facts, num_clips=num_clips, crop=crop, last=weights.last)
    span = _SEGMENTS * max(1, min(facts.num_frames, 64) // _SEGMENTS)
    options = {
        "model": "frames_r50", "model.last": weights.last, "model.stride_1x1": weights.stride_1x1,
        "norm": "frozen_bn" if weights.norm == "bn" else "gn", "init": weights.init, "fit_head": True,
        "clip_len": _SEGMENTS, "span": span, "crop": crop, "num_clips": num_clips, "num_crops": "full",
        "clip_rule": "linspace" if is_long else "segments",
    }  # fmt: skip
    length = "" if facts.has_gpu else f", about {max(1.0, minutes):.0f} minutes on {facts.num_threads} cores"
    few = facts.num_train < MANY_VIDEOS
    why = f"{facts.num_train:,} training videos are few for a whole net" if few else "there is no GPU"
    if facts.has_gpu and not few:
        why = "the weights are not those of a whole net as vidgn builds it"
    return ChosenOptions(options, (
        f"start: image weights {weights.init}",
        f"trained: the classifier alone (fit_head), since {why}{length}",
        f"clips: for videos of about {facts.num_frames} frames",
    ))  # fmt: skip


def _fine_tune(facts: Facts, weights: ImageWeights) -> ChosenOptions:
    """Fine-tune an inflated net."""
    clip_len, span = _clip(facts.num_frames, longest=32)
    crop = 224 if facts.short_side >= 200 else 112
    options = {
        "model": "i3d_r50", "norm": weights.norm, "init": weights.init, "optim": "finetune", "clip_len": clip_len,
        "span": span, "crop": crop, "epochs": 30,
    }  # fmt: skip
    enough = facts.num_train >= MANY_VIDEOS
    why = f"{facts.num_train:,} videos and a GPU are enough for it" if enough else "an option of its training is given"
    return ChosenOptions(options, (
        f"start: image weights {weights.init}, inflated",
        f"trained: the whole net for {facts.epochs or 30} epochs, since {why}",
        f"clips: for videos of about {facts.num_frames} frames",
    ))  # fmt: skip


def _from_motions(facts: Facts, *, why: str) -> ChosenOptions:
    """Fine-tune the narrow net of the package on a CPU, within the time. Source: experiments/motions_start.py."""
    if facts.has_gpu:
        return ChosenOptions({}, (f"start: random weights, since {why}",))
    ladder = _EPOCHS if facts.epochs is None else (facts.epochs,)
    for epochs in ladder:
        for frames, crop in _NARROW:
            clip_len, span = _clip(facts.num_frames, longest=frames)
            hours = training_hours(
                num_videos=facts.num_train, epochs=epochs, width=_NARROW_WIDTH, clip_len=clip_len, crop=crop,
                num_threads=facts.num_threads,
            )  # fmt: skip
            if hours * 60 <= MINUTES or (epochs, (frames, crop)) == (ladder[-1], _NARROW[-1]):
                options = {
                    "init": "motions", "optim": "finetune", "clip_len": clip_len, "span": span, "crop": crop,
                    "epochs": epochs,
                    "num_clips": 2 if facts.num_frames <= LONG_FRAMES else 10, "num_crops": 1, "clip_rule": "linspace",
                }  # fmt: skip
                return ChosenOptions(options, (
                    f"start: init=motions, a narrow net that comes with the package, since {why}; random weights "
                    "gave less in a comparison",
                    f"trained: the whole narrow net for {epochs} epochs, about {max(1.0, 60 * hours):.0f} minutes on "
                    f"{facts.num_threads} cores without validation",
                    f"clips: for videos of about {facts.num_frames} frames",
                ))  # fmt: skip
    raise AssertionError("the last step of the ladder is always taken")


def _clip(num_frames: int, *, longest: int) -> tuple[int, int]:
    """Return clip_len and span: the longest clip that a typical video fills, a multiple of 8 frames.

    >>> _clip(40, longest=32), _clip(300, longest=32), _clip(5, longest=16)
    ((32, 32), (32, 64), (8, 8))
    """
    clip_len = next((frames for frames in (32, 16, 8) if frames <= min(num_frames, longest)), 8)
    return clip_len, clip_len * max(1, min(2 if clip_len == 32 else 4, num_frames // clip_len))
