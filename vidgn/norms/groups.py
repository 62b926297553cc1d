"""Group norm for layers whose channels the groups do not divide."""

import math
from dataclasses import dataclass

from torch import nn

from vidgn.norms.layers import NORMS, ConfiguredNorm, NormFactory, make_norm


@dataclass(frozen=True)
class NearestGroups:
    """Build layers in groups, each with the number of groups nearest to the one asked for; other norms as they are.

    >>> NearestGroups(make_norm("gn", num_groups=32))(24).num_groups
    12
    """

    norm: NormFactory

    def __call__(self, num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1) -> nn.Module:
        """Build the norm of a layer with `num_features` channels."""
        norm = fit_groups(self.norm, num_features) if isinstance(self.norm, ConfiguredNorm) else self.norm
        return norm(num_features, eps=eps, momentum=momentum)


def fit_groups(norm: ConfiguredNorm, num_features: int) -> ConfiguredNorm:
    """Give a norm in groups (`gn`, `bcn`, `evonorm_s0`) a number of groups that divides the channels.

    It is the one nearest to its own by ratio. Two channels or more stay in a group, or it is one group. A norm that
    fits and any without groups come back as they are.
    """
    unfit = unfit_option(norm, num_features)
    if unfit is None:
        return norm
    option, number = unfit
    wanted = number if option == "num_groups" else num_features / number
    divisors = [g for g in range(1, num_features + 1) if num_features % g == 0 and (g == 1 or num_features // g >= 2)]
    groups = min(divisors, key=lambda g: abs(math.log(g / wanted)))
    options = {name: value for name, value in norm.options if name != option}
    return make_norm(norm.name, num_groups=groups, **options)


def unfit_option(norm: ConfiguredNorm, num_features: int) -> tuple[str, float] | None:
    """Give the option of a norm in groups, and its value, that does not divide the channels; None where it fits.

    A value below 1 counts as fitting: it is refused where the layer is built.
    """
    if "num_groups" not in NORMS[norm.name].options:
        return None
    options = dict(norm.options)
    option = "channels_per_group" if "channels_per_group" in options else "num_groups"
    value = options.get(option, 32)
    return (option, value) if value >= 1 and num_features % value else None
