import pytest
import torch

from vidgn.models.drop_path import DropPathSum, add_drop_path
from vidgn.models.fuse.rewrite import fuse
from vidgn.models.registry import build_model
from vidgn.norms import make_norm


def net(name="slow_r50"):
    torch.manual_seed(0)
    return build_model(name, num_classes=3, norm=make_norm("gn", num_groups=4), width=8, crop=32)


def test_a_branch_is_left_out_where_its_draw_is_below_the_rate():
    add = DropPathSum(0.5)
    add.draws = torch.tensor([0.4, 0.6])
    y = add(torch.full((2, 1, 1, 1, 1), 10.0), torch.full((2, 1, 1, 1, 1), 3.0))
    assert y.flatten().tolist() == [10.0, 16.0]  # the branch that stays counts twice, so that the mean is a sum's
    add.eval()
    assert add(torch.tensor([10.0]), torch.tensor([3.0])).tolist() == [13.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d_r50", "slowfast_r50", "r2plus1d_r50", "csn_r101", "x3d_s"])
def test_every_residual_net_has_rates_that_grow_to_that_of_the_last_block(name):
    model = net(name)
    keys = list(model.state_dict())
    sums = add_drop_path(model, 0.3)
    rates = [path.rate for path in sums]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)
    assert [module for module in model.modules() if isinstance(module, DropPathSum)] == sums
    assert list(model.state_dict()) == keys


@pytest.mark.slow
def test_the_net_is_another_in_training_alone_also_when_fused():
    clips = torch.randn(2, 3, 2, 32, 32)
    plain, dropped = net(), net()
    for model in (plain, dropped):  # zero gammas would hide the branches
        for name, parameter in model.named_parameters():
            if name.endswith("norm_c.weight"):
                torch.nn.init.ones_(parameter)
    sums = add_drop_path(dropped, 0.9)
    fuse(dropped)
    for path in sums:
        path.draws = torch.zeros(2)  # leave out all
    assert not torch.allclose(dropped(clips), plain(clips), atol=1e-3)
    assert torch.allclose(dropped.eval()(clips), plain.eval()(clips), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_is_a_probability(rate):
    with pytest.raises(ValueError, match=rf"drop_path \({rate}\) must be in \[0, 1\)"):
        add_drop_path(net(), rate)


@pytest.mark.slow
def test_a_net_without_residual_blocks_is_refused():
    with pytest.raises(ValueError, match=r"drop_path \(0.1\) needs residual blocks"):
        add_drop_path(net("vgg16"), 0.1)
    assert add_drop_path(net("vgg16"), 0) == []
