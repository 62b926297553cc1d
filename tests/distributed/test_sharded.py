"""What is shared out becomes whole again, and what does not go with it is refused; two ranks of it in test_ranks."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from vidgn.callbacks.nonfinite import gradient_norm
from vidgn.runs.fsdp import check_clipping, check_sharding, same_everywhere, shard, shared_like, whole
from vidgn.runs.speed import SpeedSpec


class Net(nn.Module):
    """Blocks, one of them without weights, as a `VideoNet` has them."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture
def mesh():
    """One rank, by a store in memory."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.fixture
def pair(mesh):
    """A plain net and the same one shared out, both after one backward pass."""
    nets = [Net(), Net()]
    nets[1].load_state_dict(nets[0].state_dict())
    shard(nets[1], mesh)
    for net in nets:
        net(torch.arange(6.0).view(2, 3)).square().sum().backward()
    return nets


def test_a_net_that_is_shared_out_learns_and_is_saved_as_a_plain_one(pair):
    plain, shared = pair
    optimizers = [torch.optim.SGD(net.parameters(), 0.1, momentum=0.9) for net in pair]
    for optimizer in optimizers:
        optimizer.step()
    assert all(isinstance(weight, DTensor) for weight in shared.parameters())
    states = [whole(thing.state_dict()) for thing in (plain, shared, *optimizers)]
    for ours, theirs in (states[:2], (states[2]["state"], states[3]["state"])):
        torch.testing.assert_close(theirs, ours, rtol=0, atol=0)
    assert not any(isinstance(value, DTensor) for value in states[1].values())


def test_clipping_and_the_norm_of_gradients_see_all_parts(pair):
    norms = [gradient_norm([weight.grad for weight in net.parameters()]) for net in pair]
    assert not isinstance(norms[1], DTensor)
    assert float(norms[1]) == pytest.approx(float(norms[0]), rel=1e-6)
    clipped = [nn.utils.clip_grad_norm_(net.parameters(), 0.01) for net in pair]
    assert float(whole(clipped[1])) == pytest.approx(float(norms[0]), rel=1e-6)
    for ours, theirs in zip(*(net.parameters() for net in pair), strict=True):
        torch.testing.assert_close(whole(theirs.grad), ours.grad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_not_finite_in_the_norm(pair, bad):
    gradients = [weight.grad for weight in pair[1].parameters()]
    gradients[1].to_local()[0] = bad
    assert not torch.isfinite(gradient_norm(gradients))
    gradients[1].to_local()[0] = 3e8
    assert float(gradient_norm(gradients)) == pytest.approx(3e8)


def test_momentum_follows_its_weight_and_the_rest_stays(pair):
    weight = next(pair[1].parameters())
    momentum = torch.arange(12.0).view(4, 3)
    shared = shared_like(momentum, weight)
    assert isinstance(shared, DTensor)
    assert shared.placements == weight.placements
    assert torch.equal(whole(shared), momentum)
    step = torch.tensor(3.0)
    assert shared_like(step, weight) is step  # of another shape than the weight
    assert shared_like(None, weight) is None
    assert shared_like(momentum, torch.zeros(4, 3)) is momentum  # the weight is whole


def test_tensors_of_any_kind_go_out_in_one_message_per_kind(mesh):
    """One rank gets back what it gave, in place and shape."""
    given = [torch.arange(4.0).view(2, 2), torch.tensor(7), torch.tensor(1.5)]
    kept = [tensor.clone() for tensor in given]
    same_everywhere(given)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(given, kept, strict=True))


@pytest.mark.parametrize(
    ("precision", "speed", "message"),
    [
        ("16-mixed", SpeedSpec(), r"trainer\.precision \(16-mixed\) scales gradients, .* use bf16-mixed"),
        (None, SpeedSpec(compile=True), r"^compile=true takes whole layers, .* leave compile out"),
        (None, SpeedSpec(compile=True, cuda_graphs=True), r"^compile=true takes whole layers"),
        (None, SpeedSpec(fuse=True), r"^fuse=true takes whole layers, .* leave fuse out"),
    ],
)
def test_what_does_not_go_with_weights_that_are_shared_out_is_refused(precision, speed, message):
    with pytest.raises(ValueError, match=message):
        check_sharding("fsdp", precision=precision, speed=speed)
    check_sharding("ddp", precision=precision, speed=speed)


def test_what_goes_with_it_is_not_refused():
    check_sharding("fsdp", precision="bf16-mixed", speed=SpeedSpec(fuse="auto", memory="low"))
    with pytest.raises(ValueError, match=r"optim\.agc \(0\.01\) needs whole filters, which trainer\.strategy=fsdp"):
        check_clipping(0.01, strategy="fsdp")
    check_clipping(0.01, strategy="ddp")
    check_clipping(None, strategy="fsdp")
