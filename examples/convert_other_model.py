"""Give a model of torchvision group norm in place of batch norm.

python examples/convert_other_model.py
"""

import torch
import torchvision

import vidgn


def main() -> torch.nn.Module:
    """Return torchvision's R3D-18 with group norm."""
    model = torchvision.models.video.r3d_18(weights=None, num_classes=5)
    vidgn.convert_norm(model, "gn")
    groups = [layer for layer in model.modules() if isinstance(layer, vidgn.GroupNorm3d)]
    print(f"{len(groups)} group norms, logits {tuple(model(torch.zeros(1, 3, 8, 32, 32)).shape)}")
    return model


if __name__ == "__main__":
    main()
