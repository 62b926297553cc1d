"""Train with your own Lightning Trainer: `VideoClassifier` and `VideoDataModule` are ordinary Lightning modules.

python examples/lightning_loop.py videos      # videos/train/CLASS/*.mp4, videos/val/CLASS/*.mp4
"""

import sys

import lightning as L

import vidgn
from vidgn.data.clips import ClipSpec
from vidgn.data.spec import DataSpec
from vidgn.data.transforms import CropSpec, Normalize
from vidgn.optim import OptimSpec


def main(root: str, *, epochs: int = 1, width: int = 8) -> dict[str, float]:
    """Return the metrics of the last validation."""
    train = vidgn.Manifest.from_folder(root, split="train")
    manifests = {"train": train, "val": vidgn.Manifest.from_folder(root, split="val")}
    data = vidgn.VideoDataModule(
        manifests, spec=DataSpec("folder", root=root, num_workers=0), clip=ClipSpec(8, 16), crop=CropSpec(32),
        batch=4, seed=0,
    )  # fmt: skip
    classifier = vidgn.VideoClassifier(
        vidgn.create_model("i3d_r50", norm="gn", num_classes=len(train.classes), width=width),
        normalize=Normalize(), optim=OptimSpec(), classes=train.classes, batch=4,
    )  # fmt: skip
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(classifier, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


if __name__ == "__main__":
    print(main(sys.argv[1]))
