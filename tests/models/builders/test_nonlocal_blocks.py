"""Non-local blocks in the I3D: where they stand, what they compute, and that they start as their inputs."""

import pytest
import torch
from torch import nn

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.builders.nonlocal_blocks import NonLocalBlock
from vidgn.models.fuse import fuse
from vidgn.models.registry import build_net, model_options
from vidgn.models.weights.load import load_weights
from vidgn.norms import NORMS, make_norm

GN = make_norm("gn", num_groups=4)


def narrow(norm=GN, **options):
    torch.manual_seed(0)
    return build_i3d(I3DSpec(num_classes=3, width=8, window=2, dropout=0.0, **options), norm=norm).eval()


def wake(net):
    """Give every block weights with which it does something."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, NonLocalBlock):
                for parameter in module.parameters():
                    parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return net


# 28,043,472 of the plain net; a block of C channels has 2 C^2 + 4.5 C with its norm: 526,592 of 512, 2,101,760 of 1024.
# mmaction2 prints 35.4M for five (configs/recognition/i3d/metafile.yml).
@pytest.mark.parametrize(("count", "parameters"), [(0, 28_043_472), (5, 35_401_936), (10, 42_760_400)])
def test_the_net_has_the_published_number_of_parameters(count, parameters):
    with torch.device("meta"):
        net = build_i3d(I3DSpec(num_classes=400, nonlocal_blocks=count), norm=make_norm("bn"))
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


# video-nonlocal-net's LAYER_MOD: every second block, every block, and of a ResNet-101's res4 every seventh.
@pytest.mark.parametrize(
    ("depth", "count", "res3", "res4"),
    [
        (50, 5, ["1", "3"], ["1", "3", "5"]),
        (50, 10, ["0", "1", "2", "3"], ["0", "1", "2", "3", "4", "5"]),
        (101, 5, ["1", "3"], ["6", "13", "20"]),
    ],
)
def test_the_blocks_stand_where_the_parent_code_has_them(depth, count, res3, res4):
    with torch.device("meta"):
        net = build_i3d(I3DSpec(num_classes=3, width=8, depth=depth, nonlocal_blocks=count), norm=GN)
    assert [list(net.blocks[stage].nonlocal_blocks) for stage in (3, 4)] == [res3, res4]
    assert net.blocks[3].nonlocal_blocks["1"].conv_theta.weight.shape == (32, 64, 1, 1, 1)
    assert net.blocks[4].nonlocal_blocks[res4[0]].conv_out.weight.shape == (128, 64, 1, 1, 1)


@torch.no_grad()
def test_a_block_computes_what_pytorchvideos_does():
    from pytorchvideo.layers.nonlocal_net import create_nonlocal

    torch.manual_seed(0)
    theirs = create_nonlocal(dim_in=8, dim_inner=4, pool_size=(1, 2, 2), instantiation="softmax").eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor))
    ours = NonLocalBlock(8, norm=make_norm("bn")).eval()
    ours.load_state_dict({name.replace("norm.", "norm_out."): value for name, value in theirs.state_dict().items()})
    x = torch.randn(2, 8, 3, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    assert (ours(x) - x).abs().max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_fresh_blocks_change_nothing_with_any_norm(norm):
    factory = make_norm(norm, **({"num_groups": 4} if "num_groups" in NORMS[norm].options else {}))
    net, plain = narrow(factory, nonlocal_blocks=5), narrow(factory)
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if ".nonlocal_" not in name})
    same = []
    for module in net.modules():
        if isinstance(module, NonLocalBlock):
            module.register_forward_hook(lambda _, args, output: same.append(torch.equal(args[0], output)))
    clip = torch.randn(1, 3, 8, 64, 64)
    torch.testing.assert_close(net(clip), plain(clip), rtol=1e-4, atol=1e-5)
    assert same == [True] * 5


def test_every_parameter_learns_once_the_gamma_moved():
    net = wake(narrow(nonlocal_blocks=5)).train()
    nn.functional.cross_entropy(net(torch.randn(2, 3, 8, 64, 64)), torch.tensor([0, 2])).backward()
    blocks = [module for module in net.modules() if isinstance(module, NonLocalBlock)]
    assert len(blocks) == 5
    # phi's bias shifts all weights of a position alike, which a softmax does not see.
    silent = {name for block in blocks for name, p in block.named_parameters() if p.grad.abs().max() < 1e-9}
    assert silent <= {"conv_phi.bias"}


@torch.no_grad()
def test_the_fused_net_computes_the_same():
    net = wake(narrow(nonlocal_blocks=10))
    clip = torch.randn(1, 3, 8, 64, 96)
    wanted = net(clip)
    torch.testing.assert_close(fuse(net)(clip), wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "i3d_r50", "nonlocal": 7}, r"nonlocal \(7\) must be 0, 5 or 10"),
        ({"name": "i3d_r101", "nonlocal": 10}, r"nonlocal \(10\) is published for an I3D of 50 layers alone; use 5"),
        ({"name": "slow_r50", "nonlocal": 5}, r"model=slow_r50 has no non-local blocks \(nonlocal=5\); use an i3d"),
    ],
)
def test_what_is_not_published_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        build_net(model=model | {"width": 8, "dropout": 0.0}, norm={"name": "bn"}, crop=64, num_classes=3)


def test_a_description_names_them_only_where_they_are():
    assert model_options({"name": "i3d_r50", "nonlocal": 0}) == {"name": "i3d_r50"}
    assert model_options({"name": "i3d_r50", "nonlocal": 5}) == {"name": "i3d_r50", "nonlocal": 5}


@torch.no_grad()
def test_weights_without_such_blocks_leave_them_fresh(tmp_path):
    plain, net = narrow(make_norm("bn")), narrow(make_norm("bn"), nonlocal_blocks=5)
    torch.save({"model_state": plain.state_dict()}, tmp_path / "zoo.pyth")
    report = load_weights(net, tmp_path / "zoo.pyth")
    assert any("non-local blocks are new" in note for note in report.notes)
    clip = torch.randn(1, 3, 8, 64, 64)
    torch.testing.assert_close(net(clip), plain(clip), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_names_of_the_parent_code_are_known(tmp_path, sources):
    source = wake(narrow(make_norm("bn"), nonlocal_blocks=5))
    blobs = sources.random_blobs(num_classes=3)
    parts = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    for name, value in source.state_dict().items():
        if ".nonlocal_blocks." not in name or name.endswith("tracked"):
            continue
        _, stage, _, block, layer, kind = name.split(".")
        own = f"{layer[5:]}_{kind[0]}" if layer.startswith("conv") else f"bn_{parts[kind]}"
        blobs[f"nonlocal_conv{stage}_{block}_{own}"] = value.numpy().copy()
    path = sources.write_python2_pickle({"blobs": blobs}, tmp_path / "nonlocal.pkl")
    net = narrow(make_norm("bn"), nonlocal_blocks=5)
    load_weights(net, path)
    theirs = source.state_dict()
    same = [torch.equal(value, theirs[name]) for name, value in net.state_dict().items() if ".nonlocal_" in name]
    assert len(same) == 5 * 13
    assert all(same)
