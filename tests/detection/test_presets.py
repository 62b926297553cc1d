"""Every row of Tables 4 to 7 is a preset with the paper's numbers and Detectron's recipe."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vidgn.detection.data.module import images_spec
from vidgn.detection.dispatch import OPTIONS
from vidgn.detection.network.spec import detector_spec
from vidgn.detection.optim import detector_optim
from vidgn.runs.command_line import CONFIGS

ALL_GN = ("gn", "gn", "gn", "gn")
BODY_BN = ("frozen_bn", "none", "none", "none")
# Name, table, model, norms of (body, pyramid, box head, mask head), steps in thousands, box AP, mask AP.
ROWS = [
    ("t4_bn", "Table 4", "r50_c4", BODY_BN, 360, "37.7/57.9/40.9", "32.8/54.3/34.7"),
    ("t4_gn", "Table 4", "r50_c4", ("gn", "none", "none", "none"), 360, "38.8/59.2/42.2", "33.6/55.9/35.4"),
    ("t5_bn_none", "Table 5", "r50_fpn", BODY_BN, 180, "38.6/59.5/41.9", "34.2/56.2/36.1"),
    ("t5_bn_gn", "Table 5", "r50_fpn", ("frozen_bn", "none", "gn", "none"), 180, "39.5/60.0/43.2", "34.4/56.4/36.3"),
    ("t5_gn_gn", "Table 5", "r50_fpn", ("gn", "none", "gn", "none"), 180, "40.0/61.0/43.3", "34.8/57.3/36.3"),
    ("t6_r50_bn", "Table 6", "r50_fpn", BODY_BN, 180, "38.6/59.8/42.1", "34.5/56.4/36.3"),
    ("t6_r50_gn", "Table 6", "r50_fpn", ALL_GN, 180, "40.3/61.0/44.0", "35.7/57.9/37.7"),
    ("t6_r50_gn_long", "Table 6", "r50_fpn", ALL_GN, 270, "40.8/61.6/44.4", "36.1/58.5/38.2"),
    ("t6_r101_bn", "Table 6", "r101_fpn", BODY_BN, 180, "40.9/61.9/44.8", "36.4/58.5/38.7"),
    ("t6_r101_gn", "Table 6", "r101_fpn", ALL_GN, 180, "41.8/62.5/45.4", "36.8/59.2/39.0"),
    ("t6_r101_gn_long", "Table 6", "r101_fpn", ALL_GN, 270, "42.3/62.8/46.2", "37.2/59.7/39.5"),
    ("t7_r50_sync_bn", "Table 7", "r50_fpn", ("sync_bn", "sync_bn", "sync_bn", "none"), 270, "34.5/55.2/37.7", "-"),
    ("t7_r50_gn", "Table 7", "r50_fpn", ALL_GN, 270, "39.5/59.8/43.6", "35.2/56.9/37.6"),
    ("t7_r101_gn", "Table 7", "r101_fpn", ALL_GN, 270, "41.0/61.1/44.9", "36.4/58.2/38.7"),
    ("fair_r50_bn", "Table 6 leaves out", "r50_fpn", BODY_BN, 180, "38.8/-/-", "34.4/-/-"),
    ("fair_r50_bn_long", "Table 6 leaves out", "r50_fpn", BODY_BN, 270, "38.9/-/-", "34.3/-/-"),
]
DROPS = {180: [120_000, 160_000], 270: [210_000, 250_000], 360: [240_000, 320_000]}


@pytest.mark.parametrize(("name", "table", "model", "norms", "thousands", "box", "mask"), ROWS)
def test_a_preset_is_a_row_of_a_table(name, table, model, norms, thousands, box, mask):
    words = [f"preset=detect_{name}", "data.root=/coco", f"hydra.searchpath=[file://{CONFIGS.resolve()}]"]
    with initialize_config_dir(str(OPTIONS), version_base="1.3"):
        config = compose("train", overrides=[*words, "init=null"])
    plain = {key: OmegaConf.to_container(config[key]) for key in ("model", "optim", "data")}
    spec, optim, data = detector_spec(plain["model"]), detector_optim(plain["optim"]), images_spec(plain["data"])
    assert spec.name == f"mask_rcnn_{model}"
    assert (spec.backbone_norm, spec.fpn_norm, spec.box_norm, spec.mask_norm) == norms
    c4, scratch = model == "r50_c4", name.startswith("t7")
    assert (spec.width, spec.anchor, spec.rois, spec.frozen_stages) == (64, 32, 512, 0 if scratch else 2)
    assert spec.masks == (mask != "-")
    assert spec.box_convs == (0 if name in ("t6_r50_bn", "t6_r101_bn") else 4)
    assert (config.batch, optim.lr, optim.lr_images) == ((1, 0.01, 8) if c4 else (2, 0.02, 16))
    assert (optim.steps, list(optim.drops)) == (1000 * thousands, DROPS[thousands])
    assert (optim.momentum, optim.weight_decay, optim.decay_norms, optim.bias_rate) == (0.9, 1e-4, False, 2.0)
    assert (optim.warmup_steps, round(optim.warmup_from, 4)) == (500, 0.3333)
    assert (data.name, data.train, data.val, data.test) == ("coco", "train2017", None, "val2017")
    assert (data.shorter_side, data.longest_side, data.flip) == (800, 1333, True)
    text = (OPTIONS / "preset" / f"detect_{name}.yaml").read_text()
    assert table in text
    assert f"# Box AP/AP50/AP75 {box}; mask {mask};" in text
    assert f"python train.py preset=detect_{name} data.root=COCO" in text
    assert ("init:" in text) == (not scratch)


def test_every_preset_is_tested_and_every_value_has_a_word_on_it():
    assert sorted(path.stem for path in (OPTIONS / "preset").glob("*.yaml")) == sorted(
        f"detect_{row[0]}" for row in ROWS
    )
    plain = ("name", "momentum", "weight_decay", "seed", "batch", "init", "defaults", "task", "dir", "subdir", "chdir")
    for path in OPTIONS.rglob("*.yaml"):
        for line in path.read_text().splitlines():
            key, colon, rest = line.strip().partition(":")
            if colon and rest.strip() and not key.startswith(("#", "-", "format")):
                assert "#" in rest or key in plain, f"{path}: {line}"
