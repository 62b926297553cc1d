from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_torch_hub_builds_the_papers_net(norm):
    net = torch.hub.load(str(ROOT), "i3d_r50", source="local", norm=norm, num_classes=400)
    assert sum(parameter.numel() for parameter in net.parameters()) == 28_043_472


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(RuntimeError, match="Cannot find callable i3d_r5 "):
        torch.hub.load(str(ROOT), "i3d_r5", source="local")
