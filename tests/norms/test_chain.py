import pytest
import torch
from torch import nn

from vidgn.models.registry import build_net
from vidgn.norms.calibration.chain import StoredBatches, find_chain, join_parts


class Branches(nn.Module):
    """Two modules are given one tensor; their sum goes to the last."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.last = nn.BatchNorm1d(4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.last(self.left(x) + self.right(x))


def chain_of(net, x):
    net.eval()
    norms = [name for name, layer in net.named_modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm3d)]
    with torch.no_grad():
        return find_chain(net, norms, lambda: net(x))


def test_modules_that_follow_one_another_are_listed():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), Branches(), nn.Sequential(nn.BatchNorm1d(4)))
    assert chain_of(net, torch.randn(2, 4)) == ("0", "1", "2", "3", "4.0")


def test_a_module_that_changes_its_input_in_place_belongs_to_the_chain():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.BatchNorm1d(4))
    assert chain_of(net, torch.randn(2, 4)) == ("0", "1", "2")


def test_tensors_that_do_not_count_their_changes_make_no_chain():
    with torch.inference_mode():
        x = torch.randn(2, 4)
    net = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4))
    with torch.inference_mode():
        assert chain_of(net, x) == ()
    assert chain_of(net, torch.randn(2, 4)) == ("0", "1", "2")


class Between(nn.Module):
    """Something happens between two modules."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.two(self.one(x).relu_())


def test_a_net_that_is_no_chain_has_none():
    assert chain_of(Between(), torch.randn(2, 4)) == ()
    assert chain_of(nn.Sequential(Between(), nn.BatchNorm1d(4)), torch.randn(2, 4)) == ("0", "1")


@pytest.mark.slow
def test_the_residual_blocks_of_a_video_net_are_the_parts():
    model = {"name": "i3d_r50", "width": 8, "dropout": 0.0, "pool1": "nonlocal"}
    net = build_net(model=model, norm={"name": "bn"}, crop=32, num_classes=2)
    chain = chain_of(net, torch.randn(1, 3, 8, 32, 32))
    blocks = [name for name in chain if "res_blocks" in name]
    assert len(blocks) == 16
    assert blocks[0] == "blocks.1.res_blocks.0"


def test_layers_of_a_pair_are_in_one_part():
    chain = ["stem", "norm", "act", "pool", "block"]
    assert join_parts(chain, [("stem", "norm")]) == [("stem", "norm"), ("act",), ("pool",), ("block",)]
    assert join_parts(chain, [("block.norm", "block.conv"), ("pool", "norm")])[1] == ("norm", "act", "pool")


def test_stored_batches_may_be_made_of_those_before():
    with StoredBatches() as stored:
        stored.replace(iter([torch.zeros(2), torch.ones(1)]))
        stored.replace(batch + 1 for batch in stored)
        for _ in range(2):
            assert [batch.tolist() for batch in stored] == [[1, 1], [2]]
    with pytest.raises(FileNotFoundError, match=r"0\.pt"):
        list(stored)
