import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vidgn.norms.calibration.lines import Sums, clip_moments, fit_scale, normalize_moments


def drawn(clips=3, channels=8, seed=0):
    torch.manual_seed(seed)
    spread = torch.rand(channels, 1, 1, 1, dtype=torch.float64) + 0.2
    x = torch.randn(clips, channels, 2, 3, 4, dtype=torch.float64) * spread + torch.randn(channels, 1, 1, 1).double()
    t = 1.5 * x + 0.3 * torch.randn_like(x) - 0.7
    return x, t


def fitted(x, t, *, num_groups):
    sums = Sums()
    sums.add(normalize_moments(clip_moments(x, t), num_groups=num_groups, eps=1e-5))
    return sums.fit()


@pytest.mark.parametrize("num_groups", [1, 2, 8])
def test_moments_are_normalized_as_torchs_group_norm_normalizes_values(num_groups):
    x, t = drawn()
    scale = torch.rand(8, dtype=torch.float64) + 0.5
    got = normalize_moments(clip_moments(x, t), num_groups=num_groups, eps=1e-5, scale=scale)
    expected = clip_moments(F.group_norm(x * scale.view(8, 1, 1, 1), num_groups, eps=1e-5), t)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_a_line_per_channel_is_numpys_least_squares():
    x, t = drawn()
    line = fitted(x, t, num_groups=4)
    normalized = F.group_norm(x, 4, eps=1e-5)
    left = 0.0
    for channel in range(8):
        a, b = normalized[:, channel].flatten().numpy(), t[:, channel].flatten().numpy()
        (weight, bias), residual, *_ = np.linalg.lstsq(np.stack([a, np.ones_like(a)], 1), b, rcond=None)
        assert float(line.weight[channel]) == pytest.approx(weight)
        assert float(line.bias[channel]) == pytest.approx(bias)
        left += float(residual[0])
    total = sum(float(((t[:, c] - t[:, c].mean()) ** 2).sum()) for c in range(8))
    assert line.r2 == pytest.approx(1 - left / total)


@pytest.mark.slow
def test_batches_of_any_size_give_one_fit():
    x, t = drawn(clips=6)
    parts = Sums()
    for one, other in zip(x.split(2), t.split(2), strict=True):
        parts.add(normalize_moments(clip_moments(one, other), num_groups=2, eps=1e-5))
    torch.testing.assert_close(parts.fit().weight, fitted(x, t, num_groups=2).weight)


@pytest.mark.slow
def test_a_constant_channel_gets_its_value_as_shift():
    x, t = drawn()
    x[:, 0] = 0
    line = fitted(x, t, num_groups=8)
    assert float(line.weight[0]) == 0
    assert float(line.bias[0]) == pytest.approx(float(t[:, 0].mean()))


@pytest.mark.slow
def test_a_teacher_that_is_constant_is_explained():
    x, t = drawn()
    assert fitted(x, torch.ones_like(t), num_groups=2).r2 == 1


@pytest.mark.slow
def test_features_without_positions_are_fitted_too():
    x, t = drawn(clips=40)
    x, t = x[..., 0, 0, 0], t[..., 0, 0, 0]
    assert 0 < fitted(x, t, num_groups=2).r2 < 1


@pytest.mark.slow
def test_fitting_the_scale_explains_more_and_keeps_the_mean_of_its_logarithm():
    x, _ = drawn(clips=20)
    x = x * (torch.rand(20, 8, 1, 1, 1, dtype=torch.float64) + 0.2)  # some channels change more from clip to clip
    moments = clip_moments(x, x)
    ones = torch.ones(8, dtype=torch.float64)
    scale = fit_scale(moments, num_groups=2, eps=1e-5, start=ones)
    r2 = []
    for one in (ones, scale):
        sums = Sums()
        sums.add(normalize_moments(moments, num_groups=2, eps=1e-5, scale=one))
        r2.append(sums.fit().r2)
    assert r2[1] > r2[0] + 0.01
    torch.testing.assert_close(scale.log().view(2, 4).mean(1), torch.zeros(2, dtype=torch.float64))


@pytest.mark.slow
def test_no_clips_and_infinite_values_are_refused():
    with pytest.raises(ValueError, match="calibrate gave no batch; give at least one clip"):
        Sums().fit()
    x, t = drawn()
    t[0, 0, 0, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="infinite or not a number on the calibration clips"):
        fitted(x, t, num_groups=2)
