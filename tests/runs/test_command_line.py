import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vidgn.runs.command_line import CONFIGS, check_run_folder, check_words, default_words, group_choices, with_followers
from vidgn.runs.sweeps import combinations

GROUPS = {folder.name: group_choices(folder.name) for folder in CONFIGS.iterdir() if folder.is_dir()}


def composed(*words, name="train"):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, overrides=list(words))


# Table 8 of arXiv 1803.08494: clip length, clips per GPU, top-1, top-5.
TABLE_8 = [
    ("bn_t32_b8", "bn", 32, 8, 73.3, 90.7),
    ("bn_t32_b4", "bn", 32, 4, 72.1, 90.0),
    ("bn_t64_b4", "bn", 64, 4, 73.3, 90.8),
    ("gn_t32_b8", "gn", 32, 8, 73.0, 90.6),
    ("gn_t32_b4", "gn", 32, 4, 72.8, 90.6),
    ("gn_t64_b4", "gn", 64, 4, 74.5, 91.7),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm", "clip_len", "batch", "top1", "top5"), TABLE_8)
def test_a_preset_is_a_cell_of_table_8(name, norm, clip_len, batch, top1, top5):
    config = composed(f"preset={name}", "data.root=/k400")
    assert (config.norm.name, config.clip_len, config.batch) == (norm, clip_len, batch)
    assert (config.span, config.crop, config.num_clips, config.num_crops) == (64, 224, 10, 3)
    assert (config.model.name, config.model.width, config.model.dropout) == ("i3d_r50", 64, 0.5)
    assert (config.optim.lr, config.optim.lr_clips, list(config.optim.drops)) == (0.01, 64, [0.375, 0.75])
    assert (config.optim.schedule, config.optim.weight_decay, config.optim.nesterov) == ("steps", 1e-4, True)
    assert config.data.name == "kinetics400"
    assert config.init == {"gn": "timm", "bn": "torchvision"}[norm]
    header = (CONFIGS / "preset" / f"{name}.yaml").read_text()
    assert f"top-1 {top1} %, top-5 {top5} %" in header
    assert f"python train.py preset={name} data.root=DIR" in header


def test_the_preset_of_big_transfer_is_the_authors_recipe():
    """google-research/big_vision, configs/bit_i1k.py; 1000 warm-up steps of 90 epochs of 99 % of ImageNet."""
    config = composed("preset=bit_i1k", "data.root=/imagenet")
    assert (config.task.name, config.data.name, config.clip_len) == ("image", "images", 1)
    assert (config.model.name, config.model.width, config.norm.name) == ("bit_r50", 64, "gn")
    assert (config.model.weight_standardization, config.batch * 8, config.epochs) == ("timm", 4096, 90)
    optim = config.optim
    assert (optim.lr, optim.lr_clips, optim.momentum, optim.nesterov) == (0.1, 256, 0.9, False)
    assert (optim.weight_decay, optim.decay_norms, optim.schedule) == (1e-4, False, "cosine")
    steps = 90 * 0.99 * 1_281_167 / 4096
    assert optim.warmup * steps == pytest.approx(1000, rel=0.01)
    assert config.trainer.gradient_clip_val == 1.0


def test_every_preset_is_tested():
    assert GROUPS["preset"] == sorted(["bit_i1k", *(name for name, *_ in TABLE_8)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "word", [f"{group}={choice}" for group, choices in GROUPS.items() for choice in choices if choice != "checkpoint"]
)
def test_every_choice_of_every_group_composes(word):
    place = ["data.root=/videos"] if word.startswith(("data=", "preset=")) else []
    if word == "data=shards":
        place = ["data.shards=/tars"]
    assert composed(word, *place).clip_len in (None, 1, 32, 64)


def test_the_command_line_wins_over_the_data_set_and_the_preset():
    assert composed("data=motions", "crop=96", "model.width=32").crop == 96
    assert composed("preset=gn_t64_b4", "data.root=/k", "batch=2").batch == 2
    assert composed().model.width == 16  # motions by default
    assert composed("data=folder", "data.root=/v").model.width == 64


def test_every_plain_argument_of_the_trainer_is_a_word():
    import inspect

    import lightning as L

    arguments = set(inspect.signature(L.Trainer.__init__).parameters)
    objects = {"self", "logger", "callbacks", "plugins", "profiler", "model_registry", "barebones"}
    words = {
        line.partition(":")[0]
        for line in (CONFIGS / "trainer" / "default.yaml").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert words <= arguments
    assert arguments - objects - words == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clp_len=64"], r"unknown option 'clp_len'; did you mean 'clip_len'\? use one of balanced, batch"),
        (
            ["norm.num_grups=4"],
            r"unknown option 'norm.num_grups'; did you mean 'num_groups'\? norm has channels_per_group",
        ),
        (["norm=gnn"], r"'norm=gnn' is unknown; it must be one of .*bn.*, gn, .*ln"),
        (["norm=[1,2]"], r"'norm=\[1,2\]' is unknown; norm takes one value, as in norm=batch_renorm"),
        (["preset={a: 1}"], r"'preset={a: 1}' is unknown; preset takes one value, as in preset=bit_i1k"),
        (["data=kinetics"], r"'data=kinetics' is unknown; it must be one of .*kinetics400"),
        (["trainer.max_step=2"], r"did you mean 'max_steps'\?"),
        (["gn"], r"'gn' is not of the form KEY=VALUE"),
        (["data=kinetics400", "data.clases=x"], r"did you mean 'classes'\?"),
        (["norm.depth.x=1"], r"unknown option 'norm.depth.x'"),
        (["clip_len=[1,"], r"'clip_len=\[1,' cannot be read"),
    ],
)
def test_a_typo_is_answered_with_the_choices(words, message):
    with pytest.raises(ValueError, match=message):
        check_words("train", words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["clip_len=64", "batch=4", "norm=gn"],
        ["norm.num_groups=16"],
        ["norm.channels_per_group=16"],
        ["trainer.max_steps=2", "hydra.run.dir=/x"],
        ["preset=gn_t64_b4", "data.root=/x"],
        ["-m", "norm=bn,gn"],
    ],
)
def test_the_words_of_the_readme_pass(words):
    for job in combinations(words):
        check_words("train", job)


def test_weights_choose_the_fine_tuning_recipe_unless_a_recipe_is_typed():
    assert default_words(["init=a.ckpt"]) == ["optim=finetune"]
    assert default_words(["init=null"]) == []
    assert default_words(["init=a.ckpt", "optim=scratch"]) == []
    assert default_words(["init=a.ckpt", "preset=gn_t64_b4", "data.root=/x"]) == []


def test_the_evaluation_knows_its_words():
    check_words("eval", ["ckpt=a.ckpt", "data=folder", "data.root=/x", "num_crops=full"])
    with pytest.raises(ValueError, match=r"unknown option 'norm'"):
        check_words("eval", ["ckpt=a.ckpt", "norm=bn"])


def test_no_value_is_without_a_word_on_it():
    """Every key of a config file has a unit or a reason beside it, or says itself what it is."""
    plain = {"name", "momentum", "weight_decay", "schedule", "drops", "drop_factor", "names", "clip_len", "span"}
    plain |= {"crop", "batch", "epochs", "num_clips", "num_crops", "init", "backend", "lr_clips", "nesterov", "val"}
    plain |= {"seed", "test", "decay_norms", "width", "dropout", "depth"}
    for path in Path(CONFIGS).rglob("*.yaml"):
        if path.parent.name == "trainer":
            continue  # Lightning's own names
        for line in path.read_text().splitlines():
            key, colon, rest = line.strip().partition(":")
            if colon and rest.strip() and not key.startswith(("#", "-", "defaults", "format")):
                assert "#" in rest or key in plain or key in ("dir", "subdir", "chdir"), f"{path}: {line}"


def test_a_run_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"the run folder .*/run cannot be made: .*/file is not a folder; set hydra"):
        check_run_folder(["norm=gn", f"hydra.run.dir={tmp_path}/file/run"])
    check_run_folder([f"hydra.run.dir='{tmp_path}/new/${{now:%Y}}'"])
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ValueError, match=rf"the run folder {tmp_path}/new cannot be made: {tmp_path} is not writable"):
        check_run_folder([f"hydra.run.dir={tmp_path}/new"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"the run folder runs cannot be made: .* is not writable for this user"):
        check_run_folder([])
    check_run_folder(["--help"])


def test_every_option_that_refers_to_another_follows_it():
    options = OmegaConf.to_container(composed("data=folder", "data.root=/v"))
    grouped = {f"{group}.{name}": value for group in GROUPS for name, value in (options.get(group) or {}).items()}
    is_reference = re.compile(r"\$\{\w+\}").fullmatch
    references = {str(value)[2:-1]: name for name, value in {**options, **grouped}.items() if is_reference(str(value))}
    assert references == {"epochs": "trainer.max_epochs", "strict": "data.strict"}
    assert with_followers(dict.fromkeys(references, 1)) == dict.fromkeys([*references, *references.values()], 1)
