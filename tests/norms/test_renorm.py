import pytest
import torch
from torch import nn

from vidgn.norms import make_norm
from vidgn.norms.renorm import BatchRenorm3d

OPEN = {"warmup_steps": 0, "r_ramp_end": 0, "d_ramp_end": 0}
EPS, MOMENTUM = 1e-5, 0.1


def column(vector):
    return vector.view(1, -1, 1, 1, 1)


def algorithm_1(x, weight, bias, mu, sigma, *, r_max, d_max):
    """Ioffe 2017, Algorithm 1, in float64; gives y and the moved averages mu and sigma."""
    x = x.double()
    mu_b = x.mean((0, 2, 3, 4))
    sigma_b = ((x - column(mu_b)).square().mean((0, 2, 3, 4)) + EPS).sqrt()
    r = (sigma_b / sigma).clamp(1 / r_max, r_max).detach()
    d = ((mu_b - mu) / sigma).clamp(-d_max, d_max).detach()
    x_hat = (x - column(mu_b)) / column(sigma_b) * column(r) + column(d)
    y = column(weight.double()) * x_hat + column(bias.double())
    return y, (mu + MOMENTUM * (mu_b - mu)).detach(), (sigma + MOMENTUM * (sigma_b - sigma)).detach()


def batches(count):
    torch.manual_seed(0)
    for k in range(count):
        yield torch.randn(4, 6, 2, 3, 3) * (0.5 + k) + torch.linspace(-3, 3, 6).view(1, 6, 1, 1, 1)


def test_batch_renorm_is_algorithm_1_forward_and_backward():
    norm = BatchRenorm3d(6, r_max=1.5, d_max=0.5, **OPEN)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)
    mu, sigma = torch.zeros(6).double(), torch.full((6,), 1 + EPS).double().sqrt()
    for x in batches(5):
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = norm(mine)
        expected, mu, sigma = algorithm_1(theirs, norm.weight, norm.bias, mu, sigma, r_max=1.5, d_max=0.5)
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
        upstream = torch.randn(y.shape)
        got = torch.autograd.grad(y, (mine, norm.weight, norm.bias), upstream)
        want = torch.autograd.grad(expected, (theirs, norm.weight, norm.bias), upstream.double())
        for gradient, reference in zip(got, want, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(norm.running_mean.double(), mu, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), sigma**2 - EPS, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_wide_limits_make_training_agree_with_evaluation():
    norm = BatchRenorm3d(6, r_max=1e6, d_max=1e6, **OPEN)
    for x in batches(3):
        expected = norm.eval()(x)
        torch.testing.assert_close(norm.train()(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"r_max": 1, "d_max": 0, **OPEN}, {"warmup_steps": 3}])
def test_closed_limits_are_batch_norm(options):
    norm, plain = BatchRenorm3d(6, **options), nn.BatchNorm3d(6)
    for x in batches(3):
        torch.testing.assert_close(norm(x), plain(x))


def test_the_limits_open_in_steps():
    norm = BatchRenorm3d(1, r_max=3, d_max=5, warmup_steps=2, r_ramp_end=6, d_ramp_end=4)
    norm.running_mean.fill_(-1e9)  # both corrections at their limits in every batch
    norm.momentum = 0.0
    limits = []
    for _ in range(8):
        x = torch.randn(64, 1, 1, 1, 1) * 1e3
        x = (x - x.mean()) / x.std(correction=0) * 1e3
        y = norm(x)
        limits.append((round(y.std(correction=0).item(), 3), round(y.mean().item(), 3)))
    # (r, d) of batches 0 to 7: 1 + 2 * (n - 2) / 4 and 5 * (n - 2) / 2, within [1, 3] and [0, 5]
    assert limits == [(1, 0), (1, 0), (1, 0), (1.5, 2.5), (2, 5), (2.5, 5), (3, 5), (3, 5)]


def test_its_state_is_a_batch_norms():
    norm, plain = BatchRenorm3d(6, **OPEN), nn.BatchNorm3d(6)
    assert set(norm.state_dict()) == set(plain.state_dict())
    for x in batches(3):
        plain(x)
    norm.load_state_dict(plain.state_dict())
    torch.testing.assert_close(norm.eval()(x), plain.eval()(x))


def test_a_copy_goes_on_alike():
    norm = make_norm("batch_renorm", warmup_steps=1, r_ramp_end=4, d_ramp_end=4)(6)
    *first, last = batches(4)
    for x in first:
        norm(x)
    copy = make_norm("batch_renorm", warmup_steps=1, r_ramp_end=4, d_ramp_end=4)(6)
    copy.load_state_dict(norm.state_dict())
    assert torch.equal(copy(last), norm(last))
    assert torch.equal(copy.eval()(last), norm.eval()(last))


def test_the_defaults_are_the_papers():
    norm = make_norm("batch_renorm")(6)
    assert (norm.r_max, norm.d_max) == (1.5, 0.5)
    assert (norm.warmup_steps, norm.r_ramp_end, norm.d_ramp_end) == (5_000, 40_000, 25_000)


def test_limits_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"r_max \(0.5\) must be at least 1; 1 and d_max=0 are plain batch norm"):
        BatchRenorm3d(6, r_max=0.5)
    with pytest.raises(ValueError, match=r"d_max \(-1\) must be at least 0"):
        BatchRenorm3d(6, d_max=-1)
