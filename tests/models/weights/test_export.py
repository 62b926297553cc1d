import pytest
import torch
from pytorchvideo.models.hub import i3d_r50

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.weights.export import export_weights
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm


def net(norm="bn", seed=0, **spec):
    torch.manual_seed(seed)
    options = {"num_groups": 4} if norm == "gn" else {}
    built = build_i3d(I3DSpec(**{"num_classes": 5, "width": 8, "window": 2} | spec), norm=make_norm(norm, **options))
    for tensor in built.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    return built.eval()


def read(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("names", ["pytorchvideo", "mmaction2"])
@pytest.mark.parametrize(("norm", "depth"), [("bn", 50), ("gn", 50), ("frozen_bn", 50), ("sync_bn", 101)])
def test_what_is_exported_comes_back_bit_for_bit(names, norm, depth, tmp_path):
    source, target = net(norm, depth=depth), net(norm, seed=1, depth=depth)
    export_weights(source, tmp_path / "out.pth", names=names)
    report = load_weights(target, tmp_path / "out.pth")
    assert report.source_format == names
    wanted = source.state_dict()
    assert report.loaded == len(wanted)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in target.state_dict().items())


@torch.no_grad()
def test_pytorchvideo_computes_the_same_from_an_exported_file(tmp_path):
    source = net(pool1="pytorchvideo")
    export_weights(source, tmp_path / "out.pyth", names="pytorchvideo")
    theirs = i3d_r50(stem_dim_out=8, model_num_class=5, head_pool_kernel_size=(4, 2, 2)).eval()
    theirs.load_state_dict(read(tmp_path / "out.pyth")["model_state"])
    clip = torch.randn(1, 3, 8, 64, 64)
    torch.testing.assert_close(theirs(clip), source(clip), rtol=1e-5, atol=1e-5)


def test_mmaction_names_are_those_its_files_have(sources, tmp_path):
    export_weights(net(), tmp_path / "out.pth", names="mmaction2")
    blobs = sources.random_blobs()
    theirs = {sources.mmaction_name(name): value.shape for name, value in blobs.items()}
    found = read(tmp_path / "out.pth")["state_dict"]
    plain = {name: tuple(t.shape) for name, t in found.items() if not name.endswith("num_batches_tracked")}
    assert plain == theirs
    assert len(found) == 320
    export_weights(net("gn"), tmp_path / "out.pth", names="mmaction2")
    assert "backbone.layer1.0.conv3.gn.weight" in read(tmp_path / "out.pth")["state_dict"]


def test_an_exported_tensor_is_a_copy(tmp_path):
    source = net()
    export_weights(source, tmp_path / "out.pth", names="pytorchvideo")
    found = read(tmp_path / "out.pth")["model_state"]["blocks.0.conv.weight"]
    assert found.untyped_storage().nbytes() == found.numel() * 4
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("norm", "seen"),
    [
        ("wn", "blocks.0.conv.parametrizations.weight.original0"),
        ("sub_bn", "blocks.0.norm.weight, "),
        ("batch_renorm", "blocks.0.norm.weight, "),
    ],
)
def test_what_mmaction_has_no_place_for_is_listed(norm, seen, tmp_path):
    message = rf"mmaction2's I3D has no place for \d+ tensors of this net: .*{seen}.*; export an i3d_r50"
    with pytest.raises(ValueError, match=message):
        export_weights(net(norm), tmp_path / "out.pth", names="mmaction2")
    assert not (tmp_path / "out.pth").exists()


def test_unknown_names_list_the_choices(tmp_path):
    with pytest.raises(ValueError, match="names=caffe2 is unknown; use pytorchvideo or mmaction2"):
        export_weights(net(), tmp_path / "out.pth", names="caffe2")
