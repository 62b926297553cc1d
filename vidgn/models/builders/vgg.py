"""VGG-16 on each frame: thirteen 3x3 convolutions, five pools, three layers that classify.

    block   convolutions 3x3   channels at width 64   output of 224 px (H, W)
    0       2, pool 2x2         64                     112 x 112
    1       2, pool            128                      56 x 56
    2       3, pool            256                      28 x 28
    3       3, pool            512                      14 x 14
    4       3, pool            512                       7 x 7
    5       7x7 to 4096, 1x1 to 4096, 1x1 to Q           1 x 1

Source: "Very Deep Convolutional Networks" (arXiv 1409.1556), net D; with a norm behind every convolution, as
"Group Normalization" sec. 4.1 studies it and torchvision's vgg16_bn builds it.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.models.builders.spec import NetSpec, finish
from vidgn.models.net import VideoNet
from vidgn.norms.layers import NormFactory

_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))  # convolutions, channels in stem widths
_HIDDEN = 64  # features of the two hidden layers, in stem widths: 4096 at 64


def build_vgg16(spec: NetSpec, *, norm: NormFactory) -> VideoNet:
    """Build VGG-16; convolutions have biases, for `none` has no norm to shift."""
    blocks: list[nn.Module] = []
    channels = 3
    for count, times in _STAGES:
        blocks.append(_stage(channels, spec.width * times, count=count, norm=norm))
        channels = spec.width * times
    head = FullyConnectedHead(channels, spec=spec)
    return finish([*blocks, head], spec=spec, norm=norm, time_stride=1, pictures=True)


class FullyConnectedHead(nn.Module):
    """Classify each window of each frame by three layers: (N, C, T, H', W') to (N, P, Q), P = T (H'-w+1) (W'-w+1).

    The first layer is a convolution as large as the window w, so a larger frame gives a map of predictions.
    """

    def __init__(self, num_features: int, *, spec: NetSpec) -> None:
        super().__init__()
        hidden = _HIDDEN * spec.width
        self.window = spec.window
        self.fc6 = nn.Conv3d(num_features, hidden, (1, spec.window, spec.window))
        self.fc7 = nn.Conv3d(hidden, hidden, 1)
        self.dropout = nn.Dropout(spec.dropout)
        self.proj = nn.Linear(hidden, spec.num_classes)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.proj.weight, std=0.01)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, P, Q) for the features of the last pool.

        Raises:
            ValueError: the map is smaller than the window.
        """
        if min(x.shape[3:]) < self.window:
            raise ValueError(
                f"A map of {x.shape[3]}x{x.shape[4]} positions is smaller than the window ({self.window}) that this"
                f" vgg16 was trained with; use crop={32 * self.window} or more."
            )
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.dropout(F.relu(self.fc7(x)))
        logits: Tensor = self.proj(x.flatten(2).transpose(1, 2))
        return logits


def _stage(size_in: int, size_out: int, *, count: int, norm: NormFactory) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(count):
        conv = nn.Conv3d(size_in if number == 0 else size_out, size_out, (1, 3, 3), padding=(0, 1, 1))
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, norm(size_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool3d((1, 2, 2)))
