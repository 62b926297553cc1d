import pytest
import torch

from vidgn.models.registry import MODELS, build_model
from vidgn.models.stages import freeze_stages, frozen_names, stages
from vidgn.norms import make_norm


def net(name="slow_r50"):
    norm = (MODELS[name].norms or ("gn",))[0]
    options = {"num_groups": 4} if norm == "gn" else {}
    return build_model(name, num_classes=3, norm=make_norm(norm, **options), width=8, crop=32)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_of_every_net_is_in_one_stage(name):
    model = net(name)
    parts = stages(model)
    assert list(parts) == ["stem", "res2", "res3", "res4", "res5", "head"]
    inside = [parameter for part in parts.values() for parameter in part.parameters()]
    assert sorted(map(id, inside)) == sorted(map(id, model.parameters()))


def test_frozen_stages_have_no_gradient_and_the_others_have():
    model = net()
    frozen = freeze_stages(model, ["stem", "res2"])
    model(torch.randn(1, 3, 1, 32, 32)).sum().backward()
    parts = stages(model)
    assert frozen == [parts["stem"], parts["res2"]]
    assert all(p.grad is None for name in ("stem", "res2") for p in parts[name].parameters())
    assert all(p.grad is not None for p in parts["head"].parameters())


@pytest.mark.parametrize(
    ("freeze", "train_only", "message"),
    [
        (["stme"], None, r"freeze \(stme\) must be one of stem, res2, res3, res4, res5, head"),
        ([], "haed", r"train_only \(haed\) must be one of stem"),
        (["stem"], "head", r"freeze \(\['stem'\]\) and train_only \(head\) are both given"),
        (["stem", "res2", "res3", "res4", "res5", "head"], None, r"freeze names every stage"),
    ],
)
def test_wrong_stages_are_named(freeze, train_only, message):
    with pytest.raises(ValueError, match=message):
        frozen_names(freeze, train_only)


def test_stages_need_a_net_of_six():
    model = net()
    model.blocks = model.blocks[:3]
    with pytest.raises(ValueError, match=r"a net of 3 stages has no names"):
        stages(model)
