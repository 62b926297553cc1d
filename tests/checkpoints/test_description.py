"""The description of a checkpoint is data of a stranger: each mistake in it is one sentence, at once."""

import copy
import json

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description, TestViews

PLAIN = {
    "format": 1,
    "classes": ["sit", "run"],
    "model": {"name": "i3d_r50", "width": 8, "dropout": 0.5, "pool1": "nonlocal"},
    "norm": {"name": "gn", "num_groups": 4, "channels_per_group": None, "eps": 1e-5},
    "clip": {"clip_len": 8, "span": 16},
    "crop": 32,
    "normalize": {"mean": [0.45, 0.45, 0.45], "std": [0.225, 0.225, 0.225]},
    "test": {"num_clips": 10, "num_crops": 3, "clip_rule": "linspace", "view_batch": 8},
    "data": {"name": "folder", "root": "/videos", "backend": "pyav", "passport": "/home/me/a.parquet", "flip": None},
    "versions": {"vidgn": "0.1.0"},
    "config": "hydra: /home/me",
    "words": ["data.root=/videos"],
    "job": {"batch": 8, "optim": {"lr": 0.1, "drops": [30, 40]}},
}


def bomb():
    """A list of 2**40 numbers in 40 lists."""
    items = [1]
    for _ in range(40):
        items = [items, items]
    return items


def changed(path, value):
    plain = copy.deepcopy(PLAIN)
    *parents, key = path.split(".")
    part = plain
    for name in parents:
        part = part[name]
    if value is ...:
        del part[key]
    else:
        part[key] = value
    return plain


NAN, INF, HUGE = float("nan"), float("inf"), 10**100_000
MISTAKES = [
    ("classes", ..., r"has classes \(none\); a list"),
    ("classes", [], "a list of one or more names"),
    ("classes", "run", "has classes 'run'"),
    ("classes", {"run": 1}, r"has classes \(dict\)"),
    ("classes", ["a", 1], "has classes 1; it must be text"),
    ("classes", ["a", "a"], "names a class twice"),
    ("classes", ["a" * 2_000_000], "has classes of 2,000,000 characters"),
    ("classes", bomb(), r"has classes \(list\); it must be text"),
    ("classes", [str(n) for n in range(100_001)], "has 100,001 classes"),
    ("model", ..., r"has model \(none\)"),
    ("model", [], r"has model \(list\)"),
    ("model.name", ..., "model.name"),
    ("model.width", ..., "model.width"),
    ("model.width", 10**9, "model.width 1000000000; it must be a whole number from 1 to 4096"),
    ("model.width", HUGE, r"model.width \(a number of 332,193 bits\)"),
    ("model.width", "8", "model.width '8'"),
    ("model.width", 8.0, "model.width 8.0"),
    ("model.width", True, "model.width True"),
    ("model.depth", -1, "model.depth -1"),
    ("model.dropout", NAN, "model.dropout nan; it must be a finite number"),
    ("model.dropout", 1, r"model.dropout 1; it must be in \[0, 1\)"),
    ("model.pool1", bomb(), r"model.pool1 \(list\)"),
    ("norm", "gn", "has norm 'gn'"),
    ("norm.eps", INF, "norm.eps inf"),
    ("norm.eps", -1.0, "norm.eps -1.0; it must be from 0 to 1"),
    ("norm.eps", "small", "norm.eps 'small'; it must be a finite number"),
    ("norm.momentum", 2, "norm.momentum 2; it must be from 0 to 1"),
    ("norm.num_groups", HUGE, "norm.num_groups"),
    ("clip", 8, "has clip 8"),
    ("clip.clip_len", 10**9, "has clip_len 1000000000"),
    ("clip.clip_len", 0, "has clip_len 0"),
    ("clip.clip_len", 5, r"has clip_len \(5\), which must divide span \(16\)"),
    ("clip.span", ..., r"has span \(none\)"),
    ("crop", 10**6, "has crop 1000000"),
    ("crop", 4000, "at most 67,108,864 pixels are read"),
    ("crop", "32", "has crop '32'"),
    ("normalize", ..., "has normalize"),
    ("normalize.mean", [NAN] * 3, "normalize.mean nan"),
    ("normalize.mean", [0.45], "normalize.mean .*three numbers are needed"),
    ("normalize.std", [0.0] * 3, "normalize.std"),
    ("normalize.std", [HUGE] * 3, "normalize.std"),
    ("test", ..., "has test"),
    ("test.num_clips", 10**9, "test.num_clips 1000000000"),
    ("test.num_clips", 9_999, "test.num_clips 9999 of 3 crops; at most 10000 views"),
    ("test.num_crops", 2, "test.num_crops 2; it must be one of 1, 3, full"),
    ("test.num_crops", True, "test.num_crops True"),
    ("test.num_crops", [3], r"test.num_crops \(list\)"),
    ("test.clip_rule", "all", "test.clip_rule 'all'; it must be one of nonlocal, linspace"),
    ("test.view_batch", 10**6, "test.view_batch"),
    ("data", None, r"has data \(none\)"),
    ("data.name", ..., "data.name"),
    ("data.backend", "gpu", "data.backend 'gpu'; it must be one of pyav"),
    ("data.time", "minutes", "data.time 'minutes'; it must be one of frames, seconds"),
    ("data.fps", -5.0, "data.fps -5.0; it must be above 0 and at most 1000"),
    ("data.num_workers", 10**6, "data.num_workers"),
    ("data.root", "/" * 10_000, "10,000 characters"),
    ("versions", {"vidgn": bomb()}, "versions"),
    ("versions", {1: "a"}, "has the key 1 in versions"),
    ("config", "x" * 1_000_001, "config of 1,000,001 characters"),
    ("words", "x", "has words 'x'"),
    ("job", bomb(), "too many or too deeply nested values in job"),
    ("job", {"seed": HUGE}, "has job"),
    ("later", {"a": bomb()}, "too many or too deeply nested"),
    ("format", True, "has format True"),
    ("format", ..., r"has format \(none\)"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_one_short_sentence(path, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        Description.from_plain(changed(path, value))
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_what_is_no_mapping_is_refused():
    with pytest.raises(ValueError, match=r"has the description \(list\); a mapping is needed"):
        Description.from_plain([1])


def test_a_description_comes_back_from_its_plain_form():
    found = Description.from_plain(PLAIN)
    assert found.to_plain() == PLAIN
    assert json.loads(json.dumps(found.to_plain())) == PLAIN
    assert (found.classes, found.clip_len, found.span, found.crop) == (("sit", "run"), 8, 16, 32)
    assert found.test == TestViews(10, 3, "linspace", 8)
    assert (found.net_name, found.data_name, found.backend, found.is_of_images) == ("i3d_r50", "folder", "pyav", False)


def test_what_a_later_version_recorded_is_kept():
    assert Description.from_plain({**PLAIN, "ema": {"decay": 0.999}}).to_plain()["ema"] == {"decay": 0.999}


def test_a_description_without_what_is_new_is_read():
    """Checkpoints of the first version had no job and may lack the command line."""
    old = {key: value for key, value in PLAIN.items() if key not in ("job", "words", "config", "versions")}
    found = Description.from_plain(old)
    assert (found.job, found.overrides, found.config, found.versions) == (None, (), "", {})


def test_what_is_shared_names_nothing_of_the_machine():
    text = json.dumps(Description.from_plain({**PLAIN, "later": ["/home/me/a.mp4"]}).shared().to_plain())
    assert [word for word in ("/home", "/videos", "passport", "lr") if word in text] == []
    assert Description.from_plain(json.loads(text)).classes == ("sit", "run")


def test_differences_are_named():
    ours = Description.from_plain(PLAIN)
    assert ours.differences(Description.from_plain(changed("crop", 64))) == [("crop", 32, 64)]
    assert ours.differences(Description.from_plain(changed("classes", ["sit"]))) == [
        ("classes", ["sit", "run"], ["sit"])
    ]
    assert ours.differences(Description.from_plain(changed("job.batch", 4))) == []


def saved(path, **changes):
    state = {"vidgn": PLAIN, "state_dict": {"net.weight": torch.ones(3)}, "global_step": 1, "epoch": 1}
    torch.save({key: value for key, value in {**state, **changes}.items() if value is not ...}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_dict": ...}, "has no weights"),
        ({"state_dict": [1]}, "has no weights"),
        ({"state_dict": {1: torch.ones(3)}}, "has no weights"),
        ({"state_dict": {"other": torch.ones(3)}}, "state_dict has no net"),
        ({"state_dict": {"net.weight": 1.0}}, "weight is not a dense tensor"),
        ({"state_dict": {"net.weight": torch.tensor([1, float("nan")])}}, "not finite .1 of 1 tensors, such as weight"),
        ({"state_dict": {"net.weight": torch.tensor([1, float("-inf")]).half()}}, "weights that are not finite"),
        # one number, shown a million times in each direction, for 4 TB
        ({"state_dict": {"net.weight": torch.ones(1).expand(10**6, 10**6)}}, "would have 4,000,000,000,000 bytes"),
        ({"global_step": "7"}, "global_step that is not a number of steps"),
        ({"epoch": -1}, "epoch that is not a number of steps"),
        ({"epoch": HUGE}, "cannot be read as tensors and plain values"),  # torch reads no such number
        ({"vidgn": changed("crop", 0)}, "has crop 0"),
    ],
)  # fmt: skip
def test_a_checkpoint_with_a_mistake_is_one_sentence(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_checkpoint(saved(tmp_path / "a.ckpt", **changes))
    assert len(str(caught.value)) < 500


def test_a_whole_one_is_read(tmp_path):
    found = read_checkpoint(saved(tmp_path / "a.ckpt"))
    assert (found.description, found.step, found.epoch) == (Description.from_plain(PLAIN), 1, 1)


@pytest.mark.parametrize(
    ("old", "name"),
    [
        ({"name": "i3d", "depth": 50, "width": 8, "pool1": "nonlocal"}, "i3d_r50"),
        ({"name": "i3d", "depth": 101, "width": 8, "pool1": "paper"}, "i3d_r101"),
        ({"name": "i3d", "depth": 50, "width": 8, "pool1": "pytorchvideo"}, "i3d_r50_8x8"),
    ],
)
def test_a_checkpoint_that_calls_its_net_i3d_has_the_name_of_the_registry(old, name):
    model = Description.from_plain({**PLAIN, "model": old}).model
    assert model == {"name": name, "width": 8, "pool1": old["pool1"]}
