"""TSN and TSM against torchvision's ResNet-50 and the shift as its authors write it."""

import pytest
import torch
from torch import nn

from vidgn.models.builders.shift import ShiftedBottleneck, shift_channels
from vidgn.models.fuse import fuse
from vidgn.models.registry import build_model
from vidgn.models.weights.load import load_weights
from vidgn.norms import NORMS, make_norm


def narrow(name, norm="gn"):
    torch.manual_seed(0)
    factory = make_norm(norm, **({"num_groups": 4} if "num_groups" in NORMS[norm].options else {}))
    net = build_model(name, num_classes=3, norm=factory, width=8, crop=32, dropout=0.0)
    for parameter in net.parameters():
        if parameter.dim() == 1 and not parameter.any():  # zero gammas would hide the branches
            nn.init.constant_(parameter, 0.5)
    return net.eval()


def authors_shift(x, parts):
    """The shift frame by frame, as temporal-shift-module's ops/temporal_shift.py assigns it, on (N, T, C, H, W)."""
    x = x.transpose(1, 2)
    fold = x.shape[2] // parts
    out = torch.zeros_like(x)
    out[:, :-1, :fold] = x[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
    return out.transpose(1, 2)


@pytest.mark.parametrize(("channels", "frames", "parts"), [(16, 5, 8), (19, 3, 8), (7, 4, 8), (8, 1, 8), (12, 2, 3)])
def test_the_shift_is_that_of_the_authors(channels, frames, parts):
    x = torch.randn(2, channels, frames, 3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shift_channels(x, parts=parts), authors_shift(x, parts))


@pytest.mark.slow
@torch.no_grad()
def test_2d_weights_give_the_mean_of_torchvisions_frames(tmp_path):
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.resnet50().eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.01)
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    clip = torch.randn(1, 3, 3, 64, 64)
    for name in ("tsn_r50", "tsm_r50"):
        ours = build_model(name, num_classes=1000, norm=make_norm("bn"), crop=64).eval()
        report = load_weights(ours, tmp_path / "resnet50.pth")
        assert report.loaded == 318
        assert not [note for note in report.notes if "inflated" in note]
        ours.blocks[-1].proj.load_state_dict(theirs.fc.state_dict())
        if name == "tsm_r50":  # the same net once its reference shifts, too
            for module in theirs.modules():
                if isinstance(module, torchvision.models.resnet.Bottleneck):
                    module.conv1.register_forward_pre_hook(lambda _, args: _frames(authors_shift(_clip(args[0]), 8)))
        expected = theirs(clip[0].transpose(0, 1)).mean(0, keepdim=True)
        torch.testing.assert_close(ours(clip), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def _clip(frames):
    return frames.transpose(0, 1).unsqueeze(0)  # (T, C, H, W) to (1, C, T, H, W)


def _frames(clip):
    return clip[0].transpose(0, 1)


@torch.no_grad()
def test_the_order_of_frames_counts_for_tsm_alone():
    torch.manual_seed(0)
    clip = torch.randn(1, 3, 4, 32, 32)
    backwards = clip.flip(2)
    tsn, tsm = narrow("tsn_r50"), narrow("tsm_r50")
    assert list(tsn.state_dict()) == list(tsm.state_dict())
    torch.testing.assert_close(tsn(clip), tsn(backwards))
    assert (tsm(clip) - tsm(backwards)).abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_any_norm_trains(norm):
    net = narrow("tsm_r50", norm).train()
    nn.functional.cross_entropy(net(torch.randn(2, 3, 2, 32, 32)), torch.tensor([0, 2])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.requires_grad)


@torch.no_grad()
def test_the_fused_net_shifts_too():
    net = narrow("tsm_r50")
    clip = torch.randn(2, 3, 4, 64, 64)
    wanted = net(clip)
    fused = fuse(net)
    assert sum(isinstance(module, ShiftedBottleneck) for module in fused.modules()) == 16
    torch.testing.assert_close(fused(clip), wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())
