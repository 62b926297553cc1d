import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vidgn.norms import finish_net, make_norm
from vidgn.norms.weight_norm import ChannelBias3d, normalize_weights


def small_net():
    torch.manual_seed(0)
    norm = make_norm("wn")
    net = nn.Sequential(nn.Conv3d(2, 4, 3, bias=False), norm(4), nn.Flatten(), nn.Linear(4, 3))
    finish_net(net, norm)
    return net


def test_the_kernels_are_normalized_and_keep_their_values():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv3d(2, 4, 3, bias=False), nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    x = torch.randn(2, 2, 3, 3, 3)
    before = plain(x)
    assert normalize_weights(plain) == ("0", "2")
    torch.testing.assert_close(plain(x), before)
    assert normalize_weights(plain) == ()  # once is enough
    g = plain[0].parametrizations.weight.original0
    assert g.shape == (4, 1, 1, 1, 1)
    with torch.no_grad():
        g.fill_(2.0)
        plain[0].parametrizations.weight.original1.mul_(10)
    lengths = plain[0].weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((4,), 2.0))


def test_forward_and_gradients_are_those_of_equation_2():
    net = small_net()
    g = net[0].parametrizations.weight.original0
    v = net[0].parametrizations.weight.original1
    nn.init.uniform_(g, 0.5, 2)
    nn.init.normal_(net[1].bias)
    x = torch.randn(2, 2, 3, 3, 3)
    y = net[1](net[0](x))
    g64, v64, b64 = (p.detach().double().requires_grad_() for p in (g, v, net[1].bias))
    kernel = g64 * v64 / v64.square().sum((1, 2, 3, 4), keepdim=True).sqrt()
    expected = F.conv3d(x.double(), kernel) + b64.view(1, 4, 1, 1, 1)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(y.shape)
    got = torch.autograd.grad(y, (g, v, net[1].bias), upstream)
    want = torch.autograd.grad(expected, (g64, v64, b64), upstream.double())
    for gradient, reference in zip(got, want, strict=True):
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-4)


def test_transposed_convolutions_have_a_length_per_output_channel():
    layer = nn.Sequential(nn.ConvTranspose2d(3, 5, 2))
    normalize_weights(layer)
    assert layer[0].parametrizations.weight.original0.shape == (1, 5, 1, 1)


@pytest.mark.slow
def test_a_copy_by_state_dict_is_the_same_net():
    source, copy = small_net(), small_net()
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    copy.load_state_dict(source.state_dict())
    x = torch.randn(2, 2, 3, 3, 3)
    assert torch.equal(copy.train()(x), source.eval()(x))


def test_the_bias_keeps_the_dtype_of_its_input():
    layer = ChannelBias3d(4)
    assert layer(torch.zeros(1, 4, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_other_norms_leave_the_kernels_alone():
    net = nn.Sequential(nn.Conv3d(2, 4, 3))
    for norm in (make_norm("gn"), make_norm("none"), nn.BatchNorm3d):
        finish_net(net, norm)
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
