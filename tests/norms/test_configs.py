from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vidgn.norms import NORMS, make_norm

CONFIGS = Path(__file__).parents[2] / "configs" / "norm"


def test_every_norm_has_its_word():
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == sorted(NORMS)


@pytest.mark.parametrize("name", NORMS)
def test_a_norms_file_sets_every_option_the_norm_has(name):
    words = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))
    assert words["name"] == name
    assert set(words) == {"name", *NORMS[name].options}
    make_norm(**words)(64)


@pytest.mark.parametrize("name", NORMS)
def test_every_key_has_a_reason_beside_it(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert all("  # " in line for line in lines if line[0] != "#" and not line.startswith("name:"))


# What a layer of each file holds, written out: the defaults of the sources, not of the code.
def test_the_files_say_the_defaults_of_the_sources():
    def layer(name):
        return make_norm(**OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml")))(64)

    assert (layer("gn").num_groups, layer("gn").eps) == (32, 1e-5)
    assert (layer("sync_bn").momentum, layer("sync_bn").eps) == (0.1, 1e-5)
    assert (layer("sub_bn").num_splits, layer("sub_bn").momentum) == (2, 0.1)
    renorm = layer("batch_renorm")
    assert (renorm.r_max, renorm.d_max) == (1.5, 0.5)
    assert (renorm.warmup_steps, renorm.r_ramp_end, renorm.d_ramp_end) == (5_000, 40_000, 25_000)
