"""Two devices on one: gradient accumulation under group norm, sub-BN under batch norm, against two processes.

What two processes train with DistributedDataParallel must be had on one device with the same clips: for group norm
exactly by accumulating gradients (or by a larger batch), for batch norm by `sub_bn`, whose part s holds the samples k
with k mod 2 = s, so that process s is given those.
"""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.norms import make_norm

RANKS, CLIPS = 2, 4
LABELS = torch.tensor([0, 2, 1, 2])


def clips():
    return torch.randn(CLIPS, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def build(norm):
    torch.manual_seed(0)
    net = build_i3d(I3DSpec(num_classes=3, width=8, dropout=0.0, window=1), norm=norm).double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("norm_c.weight"):
                parameter.fill_(0.5)  # at their zero the residual branches would have no part in the test
    return net.train()


def gradients(net):
    return {name.removeprefix("module."): parameter.grad.clone() for name, parameter in net.named_parameters()}


def rank_gradients(rank, folder, norm):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    net = DistributedDataParallel(build(norm))
    F.cross_entropy(net(clips()[rank::RANKS]), LABELS[rank::RANKS]).backward()
    torch.save((gradients(net), dict(net.module.named_buffers())), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def of_two_processes(folder, norm):
    """Return the gradients both have, and the buffers of each."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=rank_gradients, args=(rank, folder, norm)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    (found, first), (same, second) = (torch.load(folder / f"{rank}.pt") for rank in range(RANKS))
    assert_equal(found, same)
    return found, (first, second)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-9, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("steps", [1, 2, 4])  # clips of the batch at once, in halves, one by one
def test_accumulated_gradients_of_group_norm_are_those_of_two_processes(steps, tmp_path):
    expected, _ = of_two_processes(tmp_path, make_norm("gn", num_groups=4))
    net = build(make_norm("gn", num_groups=4))
    for part in range(steps):
        loss = F.cross_entropy(net(clips()[part::steps]), LABELS[part::steps])
        (loss / steps).backward()
    assert_equal(gradients(net), expected)


@pytest.mark.slow
def test_sub_bn_has_the_gradients_and_each_process_its_statistics(tmp_path):
    expected, buffers = of_two_processes(tmp_path, make_norm("bn"))
    net = build(make_norm("sub_bn", num_splits=RANKS))
    F.cross_entropy(net(clips()), LABELS).backward()
    assert_equal(gradients(net), expected)
    parts = {name: value for name, value in net.named_buffers() if not name.endswith("num_batches_tracked")}
    assert len(parts) == 2 * 53  # a mean and a variance of each of the 53 norms
    for rank in range(RANKS):
        assert_equal({name: value[rank] for name, value in parts.items()}, {n: buffers[rank][n] for n in parts})


@pytest.mark.slow
def test_batch_norm_too_has_them_one_process_after_the_other_and_not_with_all_clips_at_once(tmp_path):
    expected, _ = of_two_processes(tmp_path, make_norm("bn"))
    in_turn, at_once = build(make_norm("bn")), build(make_norm("bn"))
    for rank in range(RANKS):
        (F.cross_entropy(in_turn(clips()[rank::RANKS]), LABELS[rank::RANKS]) / RANKS).backward()
    assert_equal(gradients(in_turn), expected)
    F.cross_entropy(at_once(clips()), LABELS).backward()
    with pytest.raises(AssertionError, match="not close"):
        assert_equal(gradients(at_once), expected)
