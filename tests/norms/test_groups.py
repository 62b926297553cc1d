import pytest
import torch

from vidgn.norms import make_norm
from vidgn.norms.groups import NearestGroups, fit_groups


@pytest.mark.parametrize(
    ("options", "channels", "groups"),
    [
        ({}, 64, 32),  # fits
        ({}, 8, 4),  # SlowFast's fast stem: two channels a group
        ({}, 16, 8),
        ({}, 24, 12),  # X3D's stem
        ({}, 54, 27),
        ({}, 108, 36),  # 36 is nearer to 32 than 27
        ({}, 432, 36),
        ({}, 7, 1),
        ({}, 1, 1),
        ({"num_groups": 16}, 24, 12),
        ({"channels_per_group": 16}, 24, 2),  # 24 / 16 = 1.5 groups: 2 by ratio
        ({"channels_per_group": 2}, 7, 1),
    ],
)
def test_the_nearest_number_of_groups_is_taken(options, channels, groups):
    layer = NearestGroups(make_norm("gn", **options))(channels, eps=1e-4)
    assert (layer.num_groups, layer.num_features, layer.eps) == (groups, channels, 1e-4)


def test_other_options_of_the_norm_stay():
    assert NearestGroups(make_norm("gn", eps=1e-3))(24, eps=1e-5).eps == 1e-3


@pytest.mark.parametrize("name", ["bn", "ln", "in", "none"])
def test_other_norms_are_built_as_they_are(name):
    norm = make_norm(name)
    assert fit_groups(norm, 7) is norm
    assert type(NearestGroups(norm)(7)) is type(norm(7))


def test_a_factory_that_is_not_of_the_table_is_called_as_it_is():
    def build(num_features, *, eps, momentum):
        return torch.nn.GroupNorm(1, num_features, eps=eps)

    assert NearestGroups(build)(6, eps=1e-3).eps == 1e-3


def test_a_number_of_groups_below_one_is_still_refused():
    with pytest.raises(ValueError, match=r"num_groups \(0\) must divide num_features \(8\)"):
        NearestGroups(make_norm("gn", num_groups=0))(8)
