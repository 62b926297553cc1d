from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from vidgn.callbacks.percentiles import Percentiles, find_layer, stage_convs
from vidgn.models.registry import build_model
from vidgn.norms import make_norm


class Module:
    def __init__(self):
        self.logged = {}

    def log(self, name, value, **options):
        self.logged[name] = value


@pytest.fixture
def trainer():
    return SimpleNamespace(sanity_checking=False)


def test_they_are_those_of_numpy_over_the_first_batches(trainer):
    """A layer that passes its input on: numbers 0..1000 and 0..2000 have percentiles in proportion."""
    net, module = nn.Sequential(nn.Identity()), Module()
    watch = Percentiles(net, "0", num_batches=2)
    for batch, top in enumerate((1000, 2000, 9999)):
        watch.on_validation_batch_start(trainer, module, None, batch)
        net(torch.arange(top + 1.0).view(1, 1, -1, 1, 1))
        watch.on_validation_batch_end()
    watch.on_validation_epoch_end(trainer, module)
    assert module.logged == pytest.approx(
        {f"percentiles/{rank}": 15.0 * rank for rank in (1, 20, 80, 99)}  # (10 + 20) / 2 per percent
    )
    module.logged.clear()
    watch.on_validation_epoch_end(trainer, module)
    assert module.logged == {}  # nothing is logged twice


def test_large_outputs_are_thinned_evenly(trainer):
    net, module = nn.Sequential(nn.Identity()), Module()
    watch = Percentiles(net, "0")
    values = torch.from_numpy(np.random.default_rng(0).normal(size=3_000_000).astype(np.float32))
    watch.on_validation_batch_start(trainer, module, None, 0)
    net(values)
    watch.on_validation_batch_end()
    watch.on_validation_epoch_end(trainer, module)
    # the normal distribution's own: -2.326, -0.842, 0.842, 2.326
    assert [module.logged[f"percentiles/{rank}"] for rank in (1, 20, 80, 99)] == pytest.approx(
        [-2.326, -0.842, 0.842, 2.326], abs=0.02
    )


@pytest.mark.slow
def test_a_stage_is_its_last_convolution():
    net = build_model("i3d_r50", num_classes=3, norm=make_norm("gn", num_groups=4), width=8)
    assert find_layer(net, "res5") is net.get_submodule("blocks.5.res_blocks.2.branch2.conv_c")
    assert find_layer(net, "res2") is net.get_submodule("blocks.1.res_blocks.2.branch2.conv_c")
    assert find_layer(net, "blocks.0") is net.blocks[0]


@pytest.mark.slow
def test_of_two_paths_the_slow_one_is_looked_at():
    net = build_model("slowfast_r50", num_classes=3, norm=make_norm("bn"), width=8)
    assert list(stage_convs(net)) == ["res2", "res3", "res4", "res5"]
    assert stage_convs(net)["res5"].out_channels == 256  # 32 x 8 channels; the fast path has an eighth


@pytest.mark.slow
def test_an_unknown_layer_is_refused_with_the_known_ones():
    net = build_model("i3d_r50", num_classes=3, norm=make_norm("bn"), width=8)
    said = r"log\.percentiles \(res6\) is not a layer of this net; use a stage \(res2, res3, res4, res5\)"
    with pytest.raises(ValueError, match=said):
        Percentiles(net, "res6")


def test_the_sanity_check_is_not_counted():
    net, module = nn.Sequential(nn.Identity()), Module()
    watch = Percentiles(net, "0")
    watch.on_validation_batch_start(SimpleNamespace(sanity_checking=True), module, None, 0)
    net(torch.zeros(1))
    watch.on_validation_batch_end()
    watch.on_validation_epoch_end(None, module)
    assert module.logged == {}
