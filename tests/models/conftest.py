"""A reference I3D that shares nothing with ours, and weight files in the formats of other code bases.

The net is the layer table of video-nonlocal-net's lib/models/resnet_video_org.py and resnet_helper.py, written
out over a dictionary of arrays under Caffe2's names. The files are written by going from Caffe2's names to those
of each source, the opposite way of the loader's tables.
"""

import pickle
import re
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch.nn import functional as F

TEMPORAL = {2: "111", 3: "1010", 4: "101010", 5: "010"}  # blocks of each stage; 1: the first conv is 3x1x1


def caffe2_i3d(blobs, x, *, pool1=((2, 3, 3), (2, 2, 2), (0, 0, 0)), conv1_stride=(2, 2, 2), groups=None):
    """Logits (N, Q) of clips as large as the training crop, in the source's own pixels."""
    blobs = {name: torch.from_numpy(value) for name, value in blobs.items()}

    def conv(name, x, stride=1, pad=0):
        return F.conv3d(x, blobs[f"{name}_w"], stride=stride, padding=pad)

    def norm(name, x):
        if groups is not None:
            return F.group_norm(x, groups, blobs[f"{name}_gn_s"], blobs[f"{name}_gn_b"], 1e-5)
        s, b, rm, riv = (blobs[f"{name}_bn_{part}"] for part in ("s", "b", "rm", "riv"))
        return F.batch_norm(x, rm, riv, s, b, eps=1e-5)

    x = conv("conv1", x, conv1_stride, (2, 3, 3))
    x = F.max_pool3d(norm("conv1" if groups else "res_conv1", x).relu(), *pool1)
    for stage, temporal in TEMPORAL.items():
        for block, deep in enumerate(temporal):
            name, stride = f"res{stage}_{block}_branch", (1, 2, 2) if stage > 2 and block == 0 else 1
            y = norm(name + "2a", conv(name + "2a", x, 1, (int(deep), 0, 0))).relu()
            y = norm(name + "2b", conv(name + "2b", y, stride, (0, 1, 1))).relu()
            y = norm(name + "2c", conv(name + "2c", y))
            x = (y + (norm(name + "1", conv(name + "1", x, stride)) if block == 0 else x)).relu()
        if stage == 2:
            x = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
    return x.mean((2, 3, 4)) @ blobs["pred_w"].T + blobs["pred_b"]


def random_blobs(*, width=8, num_classes=5, norm="bn", pictures=False, seed=0):
    """Arrays under Caffe2's names; with `pictures` the kernels are 2-D, else those of the I3D."""
    rng = np.random.default_rng(seed)
    blobs = {}

    def conv(name, norm_name, out, size_in, kernel):
        kernel = kernel[1:] if pictures else kernel
        spread = (2 / (size_in * np.prod(kernel))) ** 0.5
        blobs[f"{name}_w"] = rng.normal(0, spread, (out, size_in, *kernel)).astype(np.float32)
        parts = ("s", "b", "rm", "riv") if norm == "bn" else ("s", "b")
        for part in parts:
            values = rng.uniform(0.5, 1.5, out) if part in ("s", "riv") else rng.normal(0, 0.1, out)
            blobs[f"{norm_name}_{norm}_{part}"] = values.astype(np.float32)

    conv("conv1", "res_conv1" if norm == "bn" else "conv1", width, 3, (5, 7, 7))
    size_in = width
    for stage, temporal in TEMPORAL.items():
        inner = width * 2 ** (stage - 2)
        for block, deep in enumerate(temporal):
            name = f"res{stage}_{block}_branch"
            conv(name + "2a", name + "2a", inner, size_in, (1 + 2 * int(deep), 1, 1))
            conv(name + "2b", name + "2b", inner, inner, (1, 3, 3))
            conv(name + "2c", name + "2c", 4 * inner, inner, (1, 1, 1))
            if block == 0:
                conv(name + "1", name + "1", 4 * inner, size_in, (1, 1, 1))
            size_in = 4 * inner
    blobs["pred_w"] = rng.normal(0, 0.1, (num_classes, size_in)).astype(np.float32)
    blobs["pred_b"] = rng.normal(0, 0.1, num_classes).astype(np.float32)
    return blobs


def inflated(blobs):
    """The I3D's kernels of 2-D ones: repeated in time and divided."""
    depths = {"conv1_w": 5}
    for stage, temporal in TEMPORAL.items():
        depths |= {f"res{stage}_{block}_branch2a_w": 3 for block, deep in enumerate(temporal) if deep == "1"}
    return {
        name: np.stack([value / depths.get(name, 1)] * depths.get(name, 1), axis=2) if value.ndim == 4 else value
        for name, value in blobs.items()
    }


def parse(name):
    """Split a Caffe2 name: (stage, block, conv, what), with stage 1 the stem and 0 the classifier."""
    match = re.fullmatch(r"pred_([wb])", name)
    if match:
        return 0, 0, "", match[1]
    match = re.fullmatch(r"(?:res_)?conv1(?:_[bg]n)?_(w|s|b|rm|riv)", name)
    if match:
        return 1, 0, "", match[1]
    stage, block, conv, what = re.fullmatch(r"res(\d)_(\d)_branch(1|2[abc])(?:_[bg]n)?_(w|s|b|rm|riv)", name).groups()
    return int(stage), int(block), conv, what


WORDS = {"w": "weight", "s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
NUMBERS = {"2a": "1", "2b": "2", "2c": "3"}


def torchvision_name(name):
    stage, block, conv, what = parse(name)
    kind = "conv" if what == "w" else "bn"
    if stage == 0:
        return f"fc.{WORDS[what]}"
    if stage == 1:
        return f"{kind}1.{WORDS[what]}"
    if conv == "1":
        return f"layer{stage - 1}.{block}.downsample.{int(what != 'w')}.{WORDS[what]}"
    return f"layer{stage - 1}.{block}.{kind}{NUMBERS[conv]}.{WORDS[what]}"


def slowfast_name(name):
    stage, block, conv, what = parse(name)
    if stage == 0:
        return f"head.projection.{WORDS[what]}"
    if stage == 1:
        return f"s1.pathway0_stem.{'conv' if what == 'w' else 'bn'}.{WORDS[what]}"
    place = "branch1" if conv == "1" else f"branch2.{conv[1]}"
    return f"s{stage}.pathway0_res{block}.{place}{'' if what == 'w' else '_bn'}.{WORDS[what]}"


def mmaction_name(name):
    stage, block, conv, what = parse(name)
    if stage == 0:
        return f"cls_head.fc_cls.{WORDS[what]}"
    place = "conv1" if stage == 1 else f"layer{stage - 1}.{block}."
    if stage > 1:
        place += "downsample" if conv == "1" else f"conv{NUMBERS[conv]}"
    return f"backbone.{place}.{'conv' if what == 'w' else 'bn'}.{WORDS[what]}"


def gluon_name(name):
    stage, _, _, what = parse(name)
    if stage == 1:
        return f"first_stage.{0 if what == 'w' else 1}.{WORDS[what]}"
    theirs = torchvision_name(name)
    return theirs if stage == 0 else f"res_layers.{stage - 2}{theirs.removeprefix(f'layer{stage - 1}')}"


def tensorpack_name(name):
    stage, block, conv, what = parse(name)
    if stage == 0:
        return f"linear/{what.upper() if what == 'w' else 'b'}:0"
    place = "conv0" if stage == 1 else f"group{stage - 2}/block{block}/"
    if stage > 1:
        place += "convshortcut" if conv == "1" else f"conv{NUMBERS[conv]}"
    part = {"w": "W", "s": "gn/gamma", "b": "gn/beta"}[what]
    return f"{place}/{part}:0"


def torch_state(blobs, rename):
    return {rename(name): torch.from_numpy(value.copy()) for name, value in blobs.items()}


class Python2Pickler(pickle._Pickler):
    """Writes as Python 2's cPickle did, protocol 2: strings and bytes are both its `str`."""

    def __init__(self, file):
        super().__init__(file, protocol=2)

    def save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    def save_global(self, value, name=None):
        module, name = value.__module__.replace("numpy._core", "numpy.core"), name or value.__name__
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(value)

    def save_function(self, value):
        self.save_global(value)

    dispatch: ClassVar = {
        **pickle._Pickler.dispatch, str: save_string, bytes: save_string, type: save_global,
        type(torchvision_name): save_function, type(len): save_function,
    }  # fmt: skip


def write_python2_pickle(content, path):
    with path.open("wb") as file:
        Python2Pickler(file).dump(content)
    return path


@pytest.fixture(scope="session")
def sources():
    return SimpleNamespace(
        net=caffe2_i3d, random_blobs=random_blobs, inflated=inflated, torch_state=torch_state,
        torchvision_name=torchvision_name, slowfast_name=slowfast_name, mmaction_name=mmaction_name,
        gluon_name=gluon_name, tensorpack_name=tensorpack_name, write_python2_pickle=write_python2_pickle,
    )  # fmt: skip


def random_state(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 7
        for name, tensor in model.state_dict().items()
    }


@pytest.fixture(scope="session")
def torchvision_state():
    return random_state(torchvision.models.resnet50())


@pytest.fixture(scope="session")
def timm_state():
    return random_state(timm.create_model("resnet50_gn"))
