"""Rewrite a built net for speed; parameters, their names and the results stay.

    norm, ReLU               one operation            `GroupNormAct3d`
    norm, add, ReLU          one operation, too
    3-D convolutions         2-D ones and products    `ViewConv3d`
    layout                   channels-last from the first convolution to the head

A net is fused once, after it is built and before or after its weights are loaded. Layers that are not group norms,
plain convolutions or ReLUs stay as they are.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn

from vidgn.models.fuse.conv import ViewConv3d, prepare_kernels
from vidgn.models.fuse.step import Unit, block_step, can_step, pair_pool, stem_step
from vidgn.norms.fused import GroupNormAct3d
from vidgn.norms.layers import GroupNorm3d
from vidgn.norms.weight_standardization import StandardizedConv3d

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def fuse(net: ModuleT, *, memory: Literal["normal", "low"] = "normal") -> ModuleT:
    """Rewrite `net` in place and return it; doing it again changes nothing.

    Modules keep their places, hooks and parameters: optimizers, checkpoints and `state_dict` do not notice.

    Args:
        net: any module; what is not made of pytorchvideo's blocks keeps its ReLUs apart from its norms.
        memory: `low` keeps fewer activations for the backward pass: what a norm and its ReLU give to the next
            layer is computed again, and on a CPU the last convolution of a block, too; the same bits.
            torch.compile makes that choice itself.

    Raises:
        ValueError: an unknown `memory`.
    """
    if memory not in ("normal", "low"):
        raise ValueError(f"memory={memory} is unknown; use normal or low.")
    for module in list(net.modules()):
        _fuse_block(module)
    for module in list(net.modules()):
        if isinstance(module, FusedResBlock | FusedStem):
            module.low_memory = memory == "low"
        elif _is_group_norm(module):
            _become(module, GroupNormAct3d).relu = False
        elif _is_plain_convolution(module):
            prepare_kernels(module)
        elif type(module) is nn.MaxPool3d:
            _become(module, ExactMaxPool3d)
    return net


class FusedResBlock(nn.Module):
    """pytorchvideo's ResBlock and its bottleneck, with the last norm, the sum and the ReLU as one operation.

    Never built: a block becomes one (`fuse`). Names of the parts: pytorchvideo models/resnet.py:1165, 1298.
    """

    branch1_conv: nn.Module | None
    branch1_norm: nn.Module | None
    branch2: nn.Module
    low_memory: bool

    def forward(self, x: Tensor) -> Tensor:
        """Give relu(norm_c(conv_c(...)) + shortcut)."""
        units = self._units()
        if units is not None and can_step(x, *units):
            return block_step(x, units, low_memory=self.low_memory)
        shortcut = x
        for layer in (self.branch1_conv, self.branch1_norm):
            shortcut = shortcut if layer is None else layer(shortcut)
        conv_a, conv_b, conv_c, norm_c = (
            getattr(self.branch2, name) for name in ("conv_a", "conv_b", "conv_c", "norm_c")
        )
        x = self._between("norm_a", "act_a", conv_b, conv_a(x))
        x = self._between("norm_b", "act_b", conv_c, x)
        y: Tensor = norm_c(x, residual=shortcut)
        return y

    def _units(self) -> tuple[Unit, Unit, Unit, Unit | None] | None:
        """Return the convolutions with their norms, or None if there is more than those."""
        branch = self.branch2
        pairs = [(getattr(branch, f"conv_{key}"), getattr(branch, f"norm_{key}")) for key in "abc"]
        pairs += [(self.branch1_conv, self.branch1_norm)] if self.branch1_conv is not None else []
        if any(type(conv) is not ViewConv3d or type(norm) is not GroupNormAct3d for conv, norm in pairs):
            return None
        if branch.act_a is not None or branch.act_b is not None:
            return None
        a, b, c, *projection = (Unit(conv, norm) for conv, norm in pairs)
        return a, b, c, projection[0] if projection else None

    def _between(self, norm_name: str, act_name: str, conv: nn.Module, x: Tensor) -> Tensor:
        """Normalize, apply what is left of the activation, convolve."""
        norm, act = (getattr(self.branch2, name) for name in (norm_name, act_name))
        if self.low_memory and act is None and isinstance(norm, GroupNormAct3d):
            return recomputed(norm, x, then=conv)
        for layer in (norm, act, conv):
            x = x if layer is None else layer(x)
        return x


class FusedStem(nn.Module):
    """pytorchvideo's ResNetBasicStem with the norm and the ReLU as one operation. Never built."""

    conv: nn.Module
    norm: GroupNormAct3d
    pool: nn.Module | None
    low_memory: bool

    def forward(self, x: Tensor) -> Tensor:
        """Give pool(relu(norm(conv(x))))."""
        unit = Unit(cast("ViewConv3d", self.conv), self.norm)
        if type(self.pool) is ExactMaxPool3d and not x.requires_grad and can_step(x, unit):
            return stem_step(x, unit, self.pool, low_memory=self.low_memory)
        x = self.conv(x)
        if self.pool is None:
            return cast("Tensor", self.norm(x))
        if self.low_memory:
            return recomputed(self.norm, x, then=self.pool)
        y: Tensor = self.pool(self.norm(x))
        return y


class ExactMaxPool3d(nn.MaxPool3d):
    """A max pool that autocast leaves alone: the largest bfloat16 is exact, and on the CPU it would be float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, T, H, W) in its dtype."""
        if input.device.type == "cpu" and not torch.compiler.is_compiling() and self._is_of_pairs():
            return pair_pool(input)
        with torch.autocast(input.device.type, enabled=False):
            y: Tensor = super().forward(input)
        return y

    def _is_of_pairs(self) -> bool:
        moves = (self.kernel_size, self.stride, self.padding, self.dilation)
        wanted = ((2, 1, 1), (2, 1, 1), (0, 0, 0), (1, 1, 1))
        same = all(move in (want, want[1]) for move, want in zip(moves, wanted, strict=True) if want[0] == want[1])
        return same and moves[:2] == wanted[:2] and not self.ceil_mode and not self.return_indices


def recomputed(norm: nn.Module, x: Tensor, *, then: Callable[[Tensor], Tensor]) -> Tensor:
    """Give then(norm(x)); what `then` would keep of norm(x) is computed again in the backward pass."""
    y: Tensor = norm(x)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return then(y)
    address = y.untyped_storage().data_ptr()

    def pack(kept: Tensor) -> Tensor | tuple[torch.Size, tuple[int, ...], int | torch.SymInt]:
        if kept.untyped_storage().data_ptr() != address:
            return kept
        return kept.size(), kept.stride(), kept.storage_offset()

    def unpack(kept: Tensor | tuple[torch.Size, tuple[int, ...], int | torch.SymInt]) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            again: Tensor = norm(x)
        return again.as_strided(*kept)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return then(y)


def _fuse_block(module: nn.Module) -> None:
    """Take the ReLUs of one of pytorchvideo's blocks into the norms before them."""
    kind = type(module).__name__
    for norm_name, relu_name in _PAIRS.get(kind, ()):
        norm, relu = (getattr(module, name) for name in (norm_name, relu_name))
        if _is_group_norm(norm) and type(relu) is nn.ReLU:
            _become(norm, GroupNormAct3d)
            setattr(module, relu_name, None)  # the blocks skip what is None
            if kind == "ResNetBasicStem":
                _become(module, FusedStem)
    if kind == "ResBlock" and _ends_in_norm_add_relu(module):
        _become(module.get_submodule("branch2.norm_c"), GroupNormAct3d)
        module.activation = None  # type: ignore[assignment]
        _become(module, FusedResBlock)


# pytorchvideo's blocks: where a ReLU follows a norm and nothing comes between (attributes norm, ReLU).
_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "ResNetBasicStem": (("norm", "activation"),),  # models/stem.py
    "BottleneckBlock": (("norm_a", "act_a"), ("norm_b", "act_b")),  # models/resnet.py
    "ShiftedBottleneck": (("norm_a", "act_a"), ("norm_b", "act_b")),  # vidgn's own, models/builders/shift.py
    "Conv2plus1d": (("norm", "activation"),),  # layers/convolutions.py
    "FuseFastToSlow": (("norm", "activation"),),  # models/slowfast.py
}


def _ends_in_norm_add_relu(block: nn.Module) -> bool:
    branch, fusion = (getattr(block, name, None) for name in ("branch2", "branch_fusion"))
    if branch is None or fusion is None or type(branch).__name__ != "BottleneckBlock":
        return False
    sums = fusion(torch.tensor([3.0, -2.0]), torch.tensor([4.0, 0.5]))  # any callable may be here; a sum is meant
    adds = torch.equal(sums, torch.tensor([7.0, -1.5]))
    return adds and type(getattr(block, "activation", None)) is nn.ReLU and _is_group_norm(branch.norm_c)


def _is_group_norm(module: object) -> bool:
    return type(module) in (nn.GroupNorm, GroupNorm3d)


def _is_plain_convolution(module: nn.Module) -> TypeGuard[nn.Conv3d]:
    if type(module) not in (nn.Conv3d, StandardizedConv3d):
        return False
    assert isinstance(module, nn.Conv3d)
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _become(module: nn.Module, kind: type[ModuleT]) -> ModuleT:
    """Make a module one of another class; its parameters, hooks and name stay."""
    module.__class__ = kind
    return cast("ModuleT", module)
