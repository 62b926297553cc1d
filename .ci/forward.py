"""Build a net with group norm and compute one forward pass, with the dependencies of vidgn alone."""

import torch

import vidgn

net = vidgn.create_model("i3d_r50", norm="gn", num_classes=3, width=16).eval()
with torch.inference_mode():
    scores = net(torch.randn(1, 3, 8, 64, 64))  # (B, C, T, H, W)
if scores.shape != (1, 3) or not scores.isfinite().all() or not scores.any():
    raise SystemExit(f"expected three finite scores that are not all zero, got {scores}")
print(f"vidgn {vidgn.__version__} from {vidgn.__file__}, torch {torch.__version__}: {scores.tolist()}")
