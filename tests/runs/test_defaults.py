import pytest

from vidgn.models.registry import MODELS
from vidgn.runs.config import RunConfig
from vidgn.runs.defaults import fill_clip, fill_standardization, own_clip
from vidgn.runs.session import compose_options


def config_of(*words):
    return RunConfig.read(compose_options("train", words))


@pytest.mark.parametrize(
    ("model", "clip"),
    [
        ("i3d_r50", (32, 64, 224)),
        ("i3d_r101", (32, 64, 224)),
        ("i3d_r50_8x8", (8, 64, 224)),
        ("slowfast_r50", (32, 64, 224)),
        ("x3d_s", (13, 78, 160)),
        ("vgg", (32, 64, 224)),  # unknown: refused where the net is built
    ],
)
def test_a_model_has_its_published_clip(model, clip):
    assert own_clip(model) == clip


def test_what_is_said_stays():
    config = fill_clip(config_of("model=x3d_s", "span=26"))
    assert (config.clip_len, config.span, config.crop) == (13, 26, 64)


def test_every_row_says_a_clip_whose_frames_divide_its_span():
    assert all(row.clip.span % row.clip.clip_len == 0 for row in MODELS.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "clip"),
    [
        ((), (32, 64, 64)),  # motions on the default network: the job it always was
        (("data=folder", "data.root=/v"), (32, 64, 224)),
        (("data=folder", "data.root=/v", "clip_len=64"), (64, 64, 224)),
        (("preset=gn_t64_b4", "data.root=/v"), (64, 64, 224)),
        (("model=x3d_s",), (13, 78, 64)),
        (("model=i3d_r50_8x8", "data=folder", "data.root=/v"), (8, 64, 224)),
        (("task=image",), (1, 1, 64)),
        (("task=image", "data=images", "data.root=/v", "model=c2d_r101"), (1, 1, 224)),
    ],
)
def test_the_words_of_a_run_give_its_clip(words, clip):
    config = fill_clip(config_of(*words))
    assert (config.clip_len, config.span, config.crop) == clip


def test_the_recipe_of_pictures_is_the_papers():
    """Section 4.1: 0.1 for 8 GPUs with 32 pictures, 100 epochs, drops at 30, 60 and 90, decay on gamma and beta."""
    config = config_of("task=image", "data=images", "data.root=/v")
    narrow = config_of("task=image", "optim.decay_norms=false", "model=vgg16")
    assert (config.epochs, config.batch, config.model.name) == (100, 32, "c2d_r50")
    spec = config.optim
    assert spec.learning_rate(256) == 0.1
    assert spec.learning_rate(8 * 4) == 0.0125  # N = 4 on each of 8 GPUs: 0.1 x 4/32
    assert [spec.factor(step, 100) for step in (0, 29, 30, 59, 60, 89, 90, 99)] == [
        1,
        1,
        0.1,
        0.1,
        0.01,
        0.01,
        1e-3,
        1e-3,
    ]
    assert (spec.momentum, spec.weight_decay, spec.decay_norms, spec.warmup) == (0.9, 1e-4, True, 0.0)
    assert (narrow.optim.decay_norms, narrow.model.name) == (False, "vgg16")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "standardized", "lr"),
    [
        ((), True, 0.48),
        (("norm=bn",), False, 0.24),
        (("norm=ln",), False, 0.24),
        (("norm=wn",), False, 0.24),
        (("model.weight_standardization=false",), False, 0.24),  # the paper's net
        (("norm=bn", "model.weight_standardization=true"), True, 0.48),
        (("model.weight_standardization=timm",), "timm", 0.48),
        (("init=timm", "optim=finetune"), False, 0.16),  # weights keep the net they were made for
        (("init=timm", "model.weight_standardization=true", "optim=finetune"), True, 0.16),
        (("optim.lr=0.03",), True, 0.03),
        (("task=image", "data=exposures"), False, 0.24),  # of data=exposures
        (("preset=gn_t32_b4", "data.root=/k400"), False, 0.01),
        (("preset=gn_t32_b4", "data.root=/k400", "init=null"), False, 0.01),
        (("model=x3d_s",), True, 0.48),
    ],
)
def test_group_norm_from_random_weights_has_standardized_kernels_and_their_rate(options, standardized, lr):
    config = fill_standardization(config_of(*options))
    assert config.model.weight_standardization == standardized
    assert config.optim.lr == lr


@pytest.mark.parametrize(("typed", "last"), [((), 7), (("trainer.max_epochs=9",), 9)])
def test_an_option_that_follows_from_a_chosen_one_is_set_with_it(typed, last):
    config = config_of(*typed).with_options({"epochs": 7, "optim": "finetune"})
    assert (config.epochs, config.trainer.max_epochs) == (7, last)
    assert config.chosen == {"epochs": 7, "optim": "finetune"}


def test_the_options_are_written_in_the_order_of_the_files():
    composed = compose_options("train", [])
    config = RunConfig.read(composed)
    assert list(config.plain()) == list(composed.options)
    assert list(config.plain())[:4] == ["optim", "clip_len", "span", "crop"]
