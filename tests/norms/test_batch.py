import pytest
import torch
import torchvision
from torch import nn

from vidgn.norms import make_norm
from vidgn.norms.batch import FrozenBatchNorm3d, SubBatchNorm3d


def trained_batch_norm(channels=6, seed=0):
    torch.manual_seed(seed)
    norm = nn.BatchNorm3d(channels)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)
    for _ in range(3):
        norm(torch.randn(4, channels, 2, 3, 3) * 2 + 1)
    return norm


def test_frozen_batch_norm_is_the_stored_line():
    source = trained_batch_norm()
    frozen = FrozenBatchNorm3d(6)
    frozen.load_state_dict(source.state_dict())
    x = torch.randn(2, 6, 2, 3, 3, requires_grad=True)
    y = frozen(x)
    shape = (1, 6, 1, 1, 1)
    scale = source.weight.double() / (source.running_var.double() + 1e-5).sqrt()
    expected = (x.double() - source.running_mean.view(shape)) * scale.view(shape) + source.bias.view(shape)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient.double(), scale.view(shape).expand_as(x), rtol=1e-5, atol=1e-5)


def test_frozen_batch_norm_equals_torchvisions():
    source = trained_batch_norm()
    ours, theirs = FrozenBatchNorm3d(6), torchvision.ops.FrozenBatchNorm2d(6)
    ours.load_state_dict(source.state_dict())
    theirs.load_state_dict(source.state_dict())
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_frozen_batch_norm_never_changes():
    frozen = FrozenBatchNorm3d(6)
    frozen.load_state_dict(trained_batch_norm().state_dict())
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    x = torch.randn(2, 6, 2, 3, 3)
    assert torch.equal(frozen.train()(x), frozen.eval()(x))
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())
    assert list(frozen.parameters()) == []


@pytest.mark.parametrize("splits", [1, 2, 4])
def test_sub_batch_norm_is_a_batch_norm_per_part(splits):
    torch.manual_seed(0)
    ours = SubBatchNorm3d(6, num_splits=splits, momentum=0.3)
    parts = [nn.BatchNorm3d(6, momentum=0.3) for _ in range(splits)]
    weight, bias = torch.rand(6) + 0.5, torch.randn(6)
    with torch.no_grad():
        for norm in (ours, *parts):
            norm.weight.copy_(weight)
            norm.bias.copy_(bias)
    for _ in range(2):
        x = torch.randn(8, 6, 2, 3, 3) * 2 + 1
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = ours(mine)
        expected = torch.empty_like(y)
        for s, part in enumerate(parts):
            expected[s::splits] = part(theirs[s::splits])
        torch.testing.assert_close(y, expected)
        upstream = torch.randn(y.shape)
        got = torch.autograd.grad(y, (mine, ours.weight, ours.bias), upstream)
        weights, biases = [part.weight for part in parts], [part.bias for part in parts]
        dx, *dparts = torch.autograd.grad(expected, (theirs, *weights, *biases), upstream)
        torch.testing.assert_close(got[0], dx, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(got[1], sum(dparts[:splits]), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(got[2], sum(dparts[splits:]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.running_mean, torch.stack([part.running_mean for part in parts]))
    torch.testing.assert_close(ours.running_var, torch.stack([part.running_var for part in parts]))


def test_sub_batch_norm_is_evaluated_with_all_parts_together():
    norm = SubBatchNorm3d(1, num_splits=2, eps=0.5)
    norm.load_state_dict(
        {
            "weight": torch.tensor([2.0]),
            "bias": torch.tensor([1.0]),
            "running_mean": torch.tensor([[1.0], [5.0]]),
            "running_var": torch.tensor([[2.0], [3.0]]),
        }
    )
    mean, var = norm.aggregate()
    assert (mean.item(), var.item()) == (3.0, 6.5)  # (1+5)/2; (2+3)/2 + ((1-3)^2 + (5-3)^2)/2
    x = torch.tensor([3.0, 10.0, 3.0]).view(3, 1, 1, 1, 1)  # an odd batch is no problem here
    torch.testing.assert_close(norm.eval()(x).flatten(), torch.tensor([1.0, 2 * 7 / 7**0.5 + 1, 1.0]))


def test_parts_of_one_distribution_together_are_its_variance():
    torch.manual_seed(0)
    norm = SubBatchNorm3d(3, num_splits=4, momentum=1.0)
    x = torch.randn(64, 3, 4, 4, 4) * 2 + 5
    norm(x)
    mean, var = norm.aggregate()
    torch.testing.assert_close(mean, x.mean((0, 2, 3, 4)))
    torch.testing.assert_close(var, x.var((0, 2, 3, 4)), rtol=2e-3, atol=0)


def test_sub_batch_norm_reads_a_batch_norm_and_itself():
    source = trained_batch_norm()
    norm = SubBatchNorm3d(6, num_splits=2)
    norm.load_state_dict(source.state_dict())
    x = torch.randn(4, 6, 2, 3, 3)
    torch.testing.assert_close(norm.eval()(x), source.eval()(x))
    norm.train()(x)
    copy = SubBatchNorm3d(6, num_splits=2)
    copy.load_state_dict(norm.state_dict())
    assert not torch.equal(copy.running_mean[0], copy.running_mean[1])
    assert torch.equal(copy.eval()(x), norm.eval()(x))
    assert torch.equal(copy.train()(x), norm.train()(x))


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match=r"num_splits \(4\) must divide the batch \(6\); use another batch or"):
        SubBatchNorm3d(3, num_splits=4)(torch.zeros(6, 3, 2, 2, 2))
    with pytest.raises(ValueError, match=r"num_splits \(0\) must be at least 1; use a divisor of the batch"):
        make_norm("sub_bn", num_splits=0)(8)


def test_sync_batch_norm_on_one_device_is_batch_norm():
    source = trained_batch_norm()
    norm = make_norm("sync_bn")(6)
    norm.load_state_dict(source.state_dict())
    mine = torch.randn(4, 6, 2, 3, 3, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    upstream = torch.randn(mine.shape)
    y, expected = norm(mine), source(theirs)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, upstream) for out, x in ((y, mine), (expected, theirs))))
    torch.testing.assert_close(norm.state_dict(), source.state_dict())
    torch.testing.assert_close(norm.eval()(mine), source.eval()(theirs))


@pytest.mark.parametrize("name", ["sub_bn", "frozen_bn", "batch_renorm", "sync_bn"])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 6, 5, 5), (4, 6, 2, 5, 5)])
def test_any_number_of_axes_and_half_precision_pass(name, shape):
    norm = make_norm(name)(6)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(shape, dtype=dtype)
        for mode in (True, False):
            y = norm.train(mode)(x)
            assert y.shape == x.shape
            assert y.dtype == dtype
            assert y.isfinite().all()
