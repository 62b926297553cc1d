import pytest
import torch
from torch import nn

from vidgn.norms import NORMS, make_norm
from vidgn.norms.precise import Moments, statistics_layers

AXES = (0, 2, 3, 4)


def tiny_net(norm="bn", **options):
    torch.manual_seed(0)
    factory = make_norm(norm, **options)
    net = nn.Sequential(nn.Conv3d(2, 4, 1), factory(4), nn.ReLU(), nn.Conv3d(4, 6, 1), factory(6))
    for layer in (net[1], net[4]):
        nn.init.uniform_(layer.weight, 0.5, 2)
        nn.init.normal_(layer.bias)
    return net.train()


def batches(num=5, size=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 2, 3, 5, 5, generator=generator) * (k + 1) + k for k in range(num)]


def measure(net, clips):
    moments = Moments(statistics_layers(net))
    with moments.watch(), torch.no_grad():
        for x in clips:
            net(x)
    return moments.statistics()


def reference_inputs(net, clips):
    """What the two norms of `tiny_net` see with batch statistics, in float64 and by the equation."""
    net, seen = net.double(), ([], [])
    for x in clips:
        x = net[0](x.double())
        seen[0].append(x)
        shape = (1, -1, 1, 1, 1)
        x = (x - x.mean(AXES).view(shape)) / (x.var(AXES, correction=0).view(shape) + 1e-5).sqrt()
        x = (x * net[1].weight.view(shape) + net[1].bias.view(shape)).relu()
        seen[1].append(net[3](x))
    return [torch.cat(inputs).detach() for inputs in seen]


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "sync_bn"])
def test_statistics_are_those_of_all_batches_together(norm):
    net = tiny_net(norm)
    found = measure(net, batches())
    for place, inputs in zip((1, 4), reference_inputs(net, batches()), strict=True):
        torch.testing.assert_close(found[f"{place}.running_mean"].double(), inputs.mean(AXES), rtol=1e-5, atol=1e-6)
        variance = inputs.var(AXES, correction=0)
        torch.testing.assert_close(found[f"{place}.running_var"].double(), variance, rtol=1e-5, atol=1e-6)
    assert set(found) == {f"{place}.running_{kind}" for place in (1, 4) for kind in ("mean", "var")}
    assert found["1.running_mean"].dtype == torch.float32


@pytest.mark.slow
def test_sub_batch_norm_gets_the_statistics_of_each_part():
    net = tiny_net("sub_bn", num_splits=2)
    found = measure(net, batches())
    for part in (0, 1):
        inputs, _ = reference_inputs(tiny_net("bn"), [x[part::2] for x in batches()])  # the same weights
        torch.testing.assert_close(found["1.running_mean"][part].double(), inputs.mean(AXES), rtol=1e-5, atol=1e-6)
        variance = inputs.var(AXES, correction=0)
        torch.testing.assert_close(found["1.running_var"][part].double(), variance, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_mean_far_from_zero_leaves_the_variance_exact():
    net = nn.Sequential(nn.BatchNorm3d(1)).train()
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(8, 1, 2, 4, 4, generator=generator) + 300 for _ in range(20)]
    expected = torch.cat(clips).double().var(correction=0)
    assert measure(net, clips)["0.running_var"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "sync_bn", "sub_bn"])
def test_measuring_changes_nothing(norm):
    net = tiny_net(norm, momentum=0.3)
    net(batches()[0])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    measure(net, batches())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert net[1].momentum == 0.3
    assert not net[1]._forward_pre_hooks


@pytest.mark.slow
def test_an_error_in_a_batch_leaves_the_net_as_it_was():
    net = tiny_net()
    net[1].momentum = None  # a cumulative average
    moments = Moments(statistics_layers(net))
    with pytest.raises(RuntimeError, match="expected input"), moments.watch():
        net(torch.zeros(1, 7, 1, 1, 1))
    assert net[1].momentum is None
    assert not net[1]._forward_pre_hooks


@pytest.mark.slow
def test_devices_are_averaged_once_for_all_layers():
    calls = []

    def reduce(x):
        calls.append(x.numel())
        return (x + 1) / 2  # a second device whose sums are all 1

    net = tiny_net()
    moments = Moments(statistics_layers(net))
    with moments.watch(), torch.no_grad():
        net(batches()[0])
    x = net[0](batches()[0].double().float()).detach().double()
    found = moments.statistics(reduce=reduce)
    mean = (x.mean(AXES) + 1) / 2
    square = (x.square().mean(AXES) + 1) / 2
    torch.testing.assert_close(found["1.running_mean"].double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["1.running_var"].double(), square - mean.square(), rtol=1e-5, atol=1e-6)
    assert calls == [2 * (4 + 6)]


@pytest.mark.slow
def test_a_layer_that_saw_nothing_is_left_out():
    net = tiny_net()
    assert Moments(statistics_layers(net)).statistics() == {}
    moments = Moments(statistics_layers(net))
    with moments.watch(), torch.no_grad():
        net[:3](batches()[0])
    assert set(moments.statistics()) == {"1.running_mean", "1.running_var"}


def test_layers_are_those_whose_statistics_batches_move():
    found = {norm for norm in NORMS if statistics_layers(nn.Sequential(make_norm(norm)(64)))}
    assert found == {"bn", "sync_bn", "sub_bn"}
    assert statistics_layers(nn.BatchNorm2d(4, track_running_stats=False)) == {}
    assert statistics_layers(nn.InstanceNorm3d(4, track_running_stats=True)) == {}
    assert list(statistics_layers(nn.BatchNorm1d(4))) == [""]
