"""What every network here is: blocks, a head that classifies each position, and a clip that fits."""

from collections.abc import Callable
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

MIN_SIDE = 32  # pixels; the smallest H and W that leave one position


class Spec(Protocol):
    """What every description of a net says."""

    @property
    def num_classes(self) -> int:
        """Classes Q."""
        ...

    @property
    def width(self) -> int:
        """Channels of the stem."""
        ...

    @property
    def dropout(self) -> float:
        """Probability before the classifier, in training."""
        ...

    @property
    def window(self) -> int:
        """Side of the head's spatial mean, in positions."""
        ...


def check_sizes(spec: Spec) -> None:
    """Check what every description has.

    Raises:
        ValueError: a number out of its range.
    """
    for name in ("num_classes", "width", "window"):
        if getattr(spec, name) < 1:
            raise ValueError(f"{name} ({getattr(spec, name)}) must be positive; use 1 or more.")
    if not 0 <= spec.dropout < 1:
        raise ValueError(f"dropout ({spec.dropout}) must be in [0, 1); use 0.5, or 0 for none.")


class VideoNet(nn.Module):
    """Classify clips; keys as pytorchvideo's nets have them (`blocks.0.conv.weight`, `blocks.6.proj.weight`).

    The net is fully convolutional: a clip larger than the training crop gives a map of predictions. A clip is
    (N, 3, T, H, W), normalized float, T a multiple of `time_stride`, H and W at least 32; else `ValueError`.

    Args:
        blocks: in turn from clip to logits (N, P, Q), the last one the head.
        spec: what the net was built from.
        time_stride: frames T must be a multiple of.
        adapter: makes of a clip what the first block takes; None: the clip.
        pictures: the net takes single pictures, T = 1, whatever its time_stride.

    Attributes:
        activate: from logits to probabilities; softmax, unless a video has several classes.
    """

    def __init__(
        self,
        blocks: nn.ModuleList,
        *,
        spec: Spec,
        time_stride: int,
        adapter: nn.Module | None = None,
        pictures: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.spec = spec
        self.time_stride = time_stride
        self.adapter = adapter
        self.pictures = pictures
        self.activate: Callable[[Tensor], Tensor] = softmax_scores

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, Q): the mean of the logits over all positions."""
        return self._position_logits(x).mean(1)

    def scores(self, x: Tensor) -> Tensor:
        """Give probabilities (N, Q): softmax (or `activate`) at each position, then the mean over positions.

        Source: video-nonlocal-net lib/models/resnet_video_org.py:235-250.
        """
        return self.activate(self._position_logits(x).float()).mean(1)

    def features(self, x: Tensor) -> Tensor:
        """Give the output of res5 (N, C, T', H', W'), with H' = H/32 for multiples of 32."""
        x = self._checked(x)
        for block in list(self.blocks)[:-1]:
            x = block(x)
        return x

    @property
    def map_block(self) -> nn.Module:
        """The module whose output, as `as_map` gives it, is `features`."""
        return self.blocks[-2]

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The blocks that are stages, `res2` first; empty where the net has none."""
        stages = [
            block for block in self.blocks if any(name.endswith("res_blocks") for name, _ in block.named_modules())
        ]
        return {f"res{number}": stage for number, stage in enumerate(stages, 2)}

    def as_map(self, output: Any) -> Tensor:
        """Return the map (N, C, T', H', W') in what a block puts out; nets whose blocks give no tensor override it."""
        return cast("Tensor", output)

    def _checked(self, x: Tensor) -> Tensor:
        """Return what the first block takes of a clip."""
        _check_clip(x, time_stride=self.time_stride, pictures=self.pictures)
        return x if self.adapter is None else self.adapter(x)

    def _position_logits(self, x: Tensor) -> Tensor:
        x = self._checked(x)
        for block in self.blocks:
            x = block(x)
        return x  # (N, P, Q)


def softmax_scores(logits: Tensor) -> Tensor:
    """Return probabilities (..., Q) of logits (..., Q)."""
    return logits.softmax(-1)


class PositionHead(nn.Module):
    """Average all frames and a window of pixels at stride 1, drop out, classify every position.

    (N, C, T', H', W') to (N, P, Q), P = (H'-window+1) (W'-window+1); a smaller map makes the window smaller.
    """

    def __init__(self, num_features: int, num_classes: int, *, dropout: float, window: int) -> None:
        super().__init__()
        self.window = window
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.proj.weight, std=0.01)  # FC_INIT_STD, video-nonlocal-net lib/core/config.py:106
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, P, Q) for res5 features."""
        return self.classify(self.average(x))

    def average(self, x: Tensor) -> Tensor:
        """Average (N, C, T', H', W') over all frames and each window: (N, C, 1, H'', W'')."""
        height, width = x.shape[3:]
        # In two steps, since torch's avg_pool3d knows no bfloat16 on the CPU and no determinism on CUDA.
        window = (min(self.window, height), min(self.window, width))
        return F.avg_pool2d(x.mean(2), window, stride=1).unsqueeze(2)

    def classify(self, x: Tensor) -> Tensor:
        """Drop out and classify every position of (N, C, 1, H'', W'')."""
        logits: Tensor = self.proj(self.dropout(x.flatten(2).transpose(1, 2)))
        return logits


def zero_last_gammas(net: nn.Module) -> None:
    """Make every bottleneck and non-local block of a net start as its shortcut, whatever the norm.

    Sets the weight of the block's last norm to 0; where that learns none (`none`, `wn`, `frozen_bn`), the
    scale of the last convolution. pytorchvideo does it for batch norms alone (models/weight_init.py:32).
    """
    for block in net.modules():
        for last in ("c", "out"):
            conv, norm = getattr(block, f"conv_{last}", None), getattr(block, f"norm_{last}", None)
            if isinstance(conv, nn.Module) and isinstance(norm, nn.Module):
                nn.init.zeros_(_last_scale(conv, norm))


def _last_scale(conv: nn.Module, norm: nn.Module) -> Tensor:
    gamma = getattr(norm, "weight", None)
    if isinstance(gamma, nn.Parameter):
        return gamma
    if is_parametrized(conv, "weight"):
        return conv.get_parameter("parametrizations.weight.original0")  # g of w = g v / ||v||
    return conv.get_parameter("weight")


def _check_clip(x: Tensor, *, time_stride: int, pictures: bool) -> None:
    if x.dim() != 5 or x.shape[1] != 3:
        raise ValueError(f"The input has shape {tuple(x.shape)}; give clips (N, 3, T, H, W).")
    frames, height, width = x.shape[2:]
    if (frames == 0 or frames % time_stride) and not (pictures and frames == 1):
        near = max(frames // time_stride, 1) * time_stride
        raise ValueError(
            f"A clip of {frames} frames must have a multiple of {time_stride};"
            f" use clip_len={near} or {near + time_stride}."
        )
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"Frames of {height}x{width} pixels must be at least {MIN_SIDE}x{MIN_SIDE}; use crop={MIN_SIDE} or more."
        )
