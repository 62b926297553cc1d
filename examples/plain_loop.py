"""Train with a plain PyTorch loop: vidgn supplies the network and the clips.

python examples/plain_loop.py videos          # videos/train/CLASS/*.mp4, videos/val/CLASS/*.mp4
"""

import sys

import torch
from torch.nn import functional as F

import vidgn
from vidgn.data.clips import ClipSpec
from vidgn.data.spec import DataSpec
from vidgn.data.transforms import CropSpec, Normalize


def main(root: str, *, epochs: int = 2, width: int = 8) -> float:
    """Return the mean loss of the last epoch."""
    manifest = vidgn.Manifest.from_folder(root, split="train")
    data = vidgn.VideoDataModule(
        {"train": manifest}, spec=DataSpec("folder", root=root, num_workers=0), clip=ClipSpec(8, 16),
        crop=CropSpec(32), batch=4, seed=0,
    )  # fmt: skip
    net = vidgn.create_model("i3d_r50", norm="gn", num_classes=len(manifest.classes), width=width)
    normalize, optimizer = Normalize(), torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    losses = [0.0]
    for epoch in range(epochs):
        loader, losses = data.train_dataloader(), []
        for batch in loader:  # clips uint8 (B, K, 3, T, H, W)
            loss = F.cross_entropy(net(normalize(batch.clips.flatten(0, 1))), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}")
    return sum(losses) / len(losses)


if __name__ == "__main__":
    main(sys.argv[1])
