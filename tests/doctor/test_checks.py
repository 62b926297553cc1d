import json

import pytest

from vidgn.doctor import checks, self_tests
from vidgn.doctor.checks import run_test
from vidgn.doctor.known_bad import known_bad

GOOD = {"python": "3.11.7", "torch": "2.11.0+cu130", "lightning": "2.6.6", "hydra-core": "1.3.2"}


@pytest.mark.parametrize(
    ("changes", "cudnn", "name", "broken"),
    [
        # users.md 27: the two malicious releases
        ({"lightning": "2.6.2"}, None, "lightning 2.6.2", True),
        ({"pytorch-lightning": "2.6.3"}, None, "pytorch-lightning 2.6.3", True),
        # 28: Hydra on Python 3.14
        ({"python": "3.14.0"}, None, "hydra-core on Python 3.14", True),
        # 20: torchcodec beside an older torch
        ({"torch": "2.10.0", "torchcodec": "0.11.0"}, None, "torchcodec and torch", False),
        # 13: wrong results in bfloat16, and slow ones
        ({}, 90900, "cuDNN Conv3d bfloat16", True),
        ({}, 91200, "cuDNN Conv3d speed", False),
        # the reader of checkpoints
        ({"torch": "2.9.1"}, None, "torch", True),
    ],
)
def test_a_known_bad_set_is_found_by_name(changes, cudnn, name, broken):
    (found,) = known_bad({**GOOD, **changes}, cudnn=cudnn)
    assert (found.name, found.broken) == (name, broken)
    assert found.advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "cudnn"),
    [
        ({}, None),
        ({}, 91500),
        ({"python": "3.14.0", "hydra-core": "1.3.5"}, None),
        ({"torchcodec": "0.11.0"}, None),
        ({"torch": "2.10.0", "torchcodec": "0.10.0"}, None),
    ],
)
def test_a_good_set_is_not_blamed(changes, cudnn):
    assert known_bad({**GOOD, **changes}, cudnn=cudnn) == []


def test_this_machine_is_well_and_the_report_is_json(vidgn):
    status, out, _ = vidgn("doctor", "--quick", "--json")
    told = json.loads(out)
    checks = {check["name"]: check for check in told["checks"]}
    assert (status, told["broken"]) == (0, False)
    for name in ("decode", "forward", "backward", "group norm", "conv3d bfloat16"):
        assert checks[name]["status"] == "ok", checks[name]
    assert "libavcodec" in checks["ffmpeg"]["found"]
    assert "limit" not in checks


def test_something_broken_is_status_1_with_the_reason(vidgn, monkeypatch):
    def wrong():
        raise RuntimeError("the frames that are read are not those that were written")

    monkeypatch.setattr(self_tests, "self_tests", lambda: [("decode", wrong)])
    status, out, _ = vidgn("doctor", "--quick")
    assert status == 1
    assert "broken decode" in out
    assert "RuntimeError: the frames that are read are not those that were written" in out
    assert out.splitlines()[-1] == "1 broken"


def test_a_missing_package_is_broken(monkeypatch):
    versions = checks.package_versions() | {"torchmetrics": "not installed"}
    (missing,) = [check for check in checks.known_bad_checks(versions) if check.status == "broken"]
    assert (missing.name, missing.advice) == ("torchmetrics", "pip install torchmetrics")


def test_a_test_without_a_message_is_a_finding_too():
    def silent():
        raise KeyError

    check = run_test("decode", silent)
    assert (check.status, check.found) == ("broken", "KeyError: no message")


def test_speed_says_what_limits_and_recommends(monkeypatch):
    monkeypatch.setattr(self_tests, "_reading_rate", lambda side: 2.0)
    rates = iter([3.0, 4.0, 5.0, 7.0])  # float32 contiguous, channels-last, bfloat16 contiguous, channels-last
    monkeypatch.setattr(self_tests, "_training_rate", lambda *job: next(rates))
    monkeypatch.setattr(self_tests.os, "sched_getaffinity", lambda pid: range(2))
    limit = self_tests.measure()[-1]
    assert limit[2] == "reading: 2 workers read 4.0, the net takes 7.00 clips/s"
    assert limit[3].startswith("trainer.precision=bf16-mixed data.num_workers=2; channels_last_3d")


@pytest.mark.parametrize(
    ("test", "target", "value", "message"),
    [
        (self_tests.check_decode, "draw_video", None, "are not those that were written"),
        (self_tests.check_group_norm, "_equation_7", lambda x, groups: x, r"group norm is off by .* from Eq\. 7"),
        (
            self_tests.check_kernel,
            "group_norm_act",
            lambda x, weight, bias, *rest: x * weight[0] + bias[0] + rest[2],
            r"the fused group norm \(.*\) is off by .* from Eq\. 7; set VIDGN_KERNELS=off",
        ),
    ],
)
def test_a_wrong_result_is_noticed(monkeypatch, test, target, value, message):
    if target == "draw_video":
        real = self_tests.write_video
        monkeypatch.setattr(self_tests, "write_video", lambda path, frames: real(path, frames[::-1]))
    else:
        monkeypatch.setattr(self_tests, target, value)
    with pytest.raises(RuntimeError, match=message):
        test()


def test_a_lost_frame_is_noticed(monkeypatch):
    real = self_tests.write_video
    monkeypatch.setattr(self_tests, "write_video", lambda path, frames: real(path, frames[:19]))
    with pytest.raises(RuntimeError, match="20 frames were written and 19 are read"):
        self_tests.check_decode()


def test_a_net_that_mixes_clips_or_does_not_learn_is_noticed(monkeypatch):
    import torch

    class Mixing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(8))

        def forward(self, x):
            return x.mean() * len(x) + 0 * self.weight.expand(len(x), 8)

    monkeypatch.setattr(self_tests, "_tiny_net", Mixing)
    with pytest.raises(RuntimeError, match="a clip has other scores in a batch than alone"):
        self_tests.check_forward()
    with pytest.raises(RuntimeError, match=r"ten steps of training take the loss from 2\.079 to 2\.079"):
        self_tests.check_backward()


def test_a_wrong_convolution_is_noticed(monkeypatch):
    import torch

    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.to(torch.bfloat16) * 2)
    with pytest.raises(RuntimeError, match=r"Conv3d in bfloat16 is off by \d\d\d%"):
        self_tests.check_conv3d()
