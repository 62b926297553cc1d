"""Synchronized batch norm of two processes against torch's batch norm of one, over the joint batch."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from vidgn.norms import make_norm
from vidgn.norms.sync import SyncBatchNorm3d

CHANNELS, PARTS = 4, ((0, 3), (3, 5))  # two processes, three clips and two


def joint():
    generator = torch.Generator().manual_seed(0)
    clips = 3 + 2 * torch.randn(5, CHANNELS, 2, 3, 3, generator=generator, dtype=torch.float64)
    return clips, torch.randn(clips.shape, generator=generator, dtype=torch.float64)


def fresh(layer):
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        layer.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    return layer


def steps(layer, clips, targets):
    """Two steps in training; the second sees other values. Returns what came out and every gradient."""
    results = []
    for shift in (0.0, 1.0):
        x = (clips * (1 + shift)).requires_grad_()
        y = layer(x)
        layer.zero_grad()
        (y * targets).square().sum().backward()
        results += [y.detach(), x.grad, layer.weight.grad.clone(), layer.bias.grad.clone()]
    return results


def process(rank, folder, momentum):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    layer = fresh(SyncBatchNorm3d(CHANNELS, momentum=momentum))
    clips, targets = joint()
    part = slice(*PARTS[rank])
    results = steps(layer, clips[part], targets[part])
    after = layer.eval()(clips[part]).detach()
    wrapped = nn.parallel.DistributedDataParallel(fresh(SyncBatchNorm3d(CHANNELS)))
    (wrapped(clips[part]) * targets[part]).square().sum().backward()
    gradient = wrapped.module.weight.grad
    torch.save((results, after, layer.state_dict(), gradient), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.1, None])  # None: the mean of all steps
def test_two_processes_have_the_statistics_and_gradients_of_one_with_the_joint_batch(momentum, tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=process, args=(rank, tmp_path, momentum)) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(timeout=120)
    assert [one.exitcode for one in processes] == [0, 0]

    layer = fresh(nn.BatchNorm3d(CHANNELS, momentum=momentum))
    clips, targets = joint()
    expected = steps(layer, clips, targets)
    (first, first_after, first_state, first_mean), (second, second_after, second_state, second_mean) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in range(2)
    )
    for place, value in enumerate(expected):
        whole = place % 4 > 1  # gradients of weight and bias add up over the processes
        found = first[place] + second[place] if whole else torch.cat([first[place], second[place]])
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-10)
    for mean in (first_mean, second_mean):  # DistributedDataParallel takes the mean over the processes
        torch.testing.assert_close(2 * mean, expected[2], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat([first_after, second_after]), layer.eval()(clips).detach())
    for name, value in layer.state_dict().items():
        for state in (first_state, second_state):
            torch.testing.assert_close(state[name], value)


def test_one_process_is_batch_norm():
    clips, targets = joint()
    layer, expected = fresh(SyncBatchNorm3d(CHANNELS)), fresh(nn.BatchNorm3d(CHANNELS))
    for found, value in zip(steps(layer, clips, targets), steps(expected, clips, targets), strict=True):
        torch.testing.assert_close(found, value)
    assert isinstance(make_norm("sync_bn")(8), SyncBatchNorm3d)


def test_an_input_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"The input has shape \(4,\); give \(N, C, ...\)"):
        SyncBatchNorm3d(4)(torch.zeros(4))


@pytest.mark.slow
def test_torchs_own_layer_refuses_the_cpu(tmp_path):
    """Why there is one of ours: with a process group torch's needs an accelerator."""
    context = multiprocessing.get_context("fork")
    one = context.Process(target=refused, args=(tmp_path,))
    one.start()
    one.join(timeout=120)
    assert one.exitcode == 0
    assert (tmp_path / "said").read_text().startswith("SyncBatchNorm expected input tensor to be on")


def refused(folder: Path):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    y = fresh(SyncBatchNorm3d(CHANNELS))(joint()[0])  # ours takes it in a group of one, too
    torch.testing.assert_close(y, fresh(nn.BatchNorm3d(CHANNELS))(joint()[0]))
    try:
        torch.nn.SyncBatchNorm(2)(torch.zeros(2, 2, 1, 1, 1))
    except ValueError as err:
        (folder / "said").write_text(str(err))
    dist.destroy_process_group()
