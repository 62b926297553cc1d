import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vidgn.norms.calibration.kernels import can_be_fitted, fit_input_scales, fit_kernel, fit_ridge, position_sums

KERNELS = [
    nn.Conv3d(3, 5, (3, 1, 3), stride=(1, 2, 1), padding=(1, 0, 1)),
    nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False),
    nn.Conv1d(3, 5, 1, stride=2),
]


def inputs(kernel, seed=0, clips=4, side=7):
    torch.manual_seed(seed)
    return torch.randn(clips, 3, *[side] * len(kernel.kernel_size))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@torch.no_grad()
def test_sums_tell_the_error_of_any_kernel(kernel):
    (x,) = inputs(kernel, clips=1)
    plain = type(kernel)(3, 5, kernel.kernel_size, kernel.stride, kernel.padding, bias=False)
    wanted = torch.randn_like(plain(x[None])[0])
    expected = (plain(x[None])[0] - wanted).square().sum() / wanted.square().sum()
    sums = position_sums(kernel, x, wanted)
    assert sums.error(plain.weight.double().flatten(1)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@torch.no_grad()
def test_channels_that_were_scaled_are_scaled_back(kernel):
    x, factors = inputs(kernel), torch.tensor([0.5, 2.0, 1.25])
    changed = x * factors.view(3, *[1] * (x.dim() - 2))
    fitted = fit_kernel(kernel, [(changed[:2], kernel(x[:2])), (changed[2:], kernel(x[2:]))], whole=False)
    shape = (1, 3, *[1] * (x.dim() - 2))
    torch.testing.assert_close(fitted, kernel.weight.double() / factors.view(shape), rtol=2e-2, atol=1e-3)


@torch.no_grad()
def test_ridge_regression_is_numpys():
    kernel = KERNELS[1]
    x, wanted = inputs(kernel)[0], torch.randn(5, 4, 4)
    sums = position_sums(kernel, x, wanted)
    copied = kernel.weight.double().flatten(2)
    near = fit_input_scales(copied, sums)
    ridge = 0.1 * float(sums.inputs.diagonal().mean())
    u = F.unfold(x[None], 3, padding=1, stride=2)[0].double().numpy()  # (K, P)
    rows = np.concatenate([u.T, np.sqrt(ridge) * np.eye(27)])
    targets = np.concatenate([wanted.double().flatten(1).numpy().T, np.sqrt(ridge) * near.numpy().T])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0].T
    np.testing.assert_allclose(fit_ridge(copied, sums, share=0.1).numpy(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_whole_kernel_is_fitted_where_it_generalizes_and_not_to_noise():
    kernel = nn.Conv2d(3, 5, 1, bias=False)
    mixed = nn.Conv2d(3, 3, 1, bias=False)
    x = inputs(kernel, clips=8)
    fitted = fit_kernel(kernel, [(mixed(x), kernel(x))], whole=True)
    assert F.mse_loss(F.conv2d(mixed(x), fitted.float()), kernel(x)) < 0.05 * F.mse_loss(kernel(mixed(x)), kernel(x))
    assert fit_kernel(kernel, [(x, kernel(x))], whole=True) is None  # the input is the teacher's own
    noise = kernel(x) + 0.1 * torch.randn(8, 5, 7, 7)
    left = fit_kernel(kernel, [(x, noise)], whole=True)
    assert left is None or F.mse_loss(left.float(), kernel.weight) < 1e-3


def test_one_clip_fits_no_kernel():
    kernel = KERNELS[1]
    x = inputs(kernel, clips=1)
    assert fit_kernel(kernel, [(2 * x, kernel(x).detach())], whole=True) is None


@pytest.mark.parametrize(
    "layer",
    [None, nn.Linear(3, 5), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(3, 5, 3, dilation=2),
     nn.Conv2d(3, 5, 3, padding="same"), nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect")],
)  # fmt: skip
def test_layers_with_other_rules_are_left(layer):
    assert not can_be_fitted(layer)
