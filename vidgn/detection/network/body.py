"""torchvision's ResNet at any width, its stages frozen from the stem on, and the two ways to use its feature maps."""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

LAYERS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_FROZEN = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


class Body(ResNet):  # type: ignore[misc]  # torchvision has no types
    """A ResNet without its classifier; at width 64 the tensors are named and shaped as torchvision's.

    The stride of a bottleneck is on its 3x3 convolution (torchvision; Detectron's STRIDE_1X1 False).

    Args:
        depth: layers, a key of `LAYERS`.
        width: channels of the stem.
        norm: builds a norm from its channels; None: no norm.
    """

    def __init__(self, depth: int, *, width: int, norm: Callable[[int], nn.Module] | None) -> None:
        nn.Module.__init__(self)
        block = BasicBlock if depth == 18 else Bottleneck
        build = norm or (lambda channels: nn.Identity())
        self._norm_layer = build
        self.inplanes, self.dilation, self.groups, self.base_width = width, 1, 1, 64
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = build(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for stage, count in enumerate(LAYERS[depth]):
            layer = self._make_layer(block, width << stage, count, stride=1 if stage == 0 else 2)
            setattr(self, f"layer{stage + 1}", layer)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.channels = self.inplanes  # of the last stage


def freeze_body(body: nn.Module, *, stages: int) -> None:
    """Let the first `stages` stages of a ResNet, the stem counted as one, keep their weights: Detectron's FREEZE_AT."""
    for names in _FROZEN[:stages]:
        for name in names:
            for parameter in getattr(body, name).parameters():
                parameter.requires_grad_(False)


def with_pyramid(body: Body, *, channels: int, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    """Return a body and its pyramid of maps at strides 4 to 32, with one of stride 64 for proposals."""
    last = body.channels
    pyramid: nn.Module = BackboneWithFPN(
        body,
        {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)},
        [last // 8, last // 4, last // 2, last],
        channels,
        LastLevelMaxPool(),
        norm,
    )
    return pyramid


class Res4Map(nn.Module):
    """A body up to res4, whose one map has stride 16 (Detectron's C4).

    Args:
        body: changed: it loses its last stage.
    """

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.out_channels = body.channels // 2
        self.body = IntermediateLayerGetter(body, return_layers={"layer3": "0"})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the map (B, C, H/16, W/16) of images (B, 3, H, W)."""
        maps: dict[str, Tensor] = self.body(images)
        return maps
