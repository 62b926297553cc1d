"""Fine-tune somebody's batch-norm weights on your own videos, two clips per step: group norm beside batch norm.

python examples/own_videos_from_batch_norm.py WEIGHTS videos    # videos/train/CLASS/*.mp4, videos/val/CLASS/*.mp4

WEIGHTS is a run folder, a checkpoint or a published file of a batch-norm net (docs/convert.md).
"""

import sys
from pathlib import Path
from typing import Any

import vidgn

NORMS = ("bn", "frozen_bn", "gn")


def main(weights: str, root: str, *, out: str = "runs/own", batch: int = 2, **options: Any) -> dict[str, float]:
    """Return the video top-1 by norm; `options` are those of `vidgn.train`, such as epochs=5."""
    data = {"name": "folder", "root": root}
    top1 = {}
    for norm in NORMS:
        start = Path(weights)
        if norm != "bn":  # batch norm starts from the weights as they are
            start = Path(out) / f"{norm}.ckpt"
            start.parent.mkdir(parents=True, exist_ok=True)
            converted = vidgn.convert_weights(weights, out=start, norm=norm, data=data, overwrite=True)
            print(f"{norm}: top-1 of the batch-norm net kept on {converted.converted:.0f} % of the clips")
        folder = f"hydra.run.dir='{Path(out) / norm}'"
        result = vidgn.train("data=folder", folder, root=root, init=str(start), batch=batch, **options)
        assert result is not None  # test=False alone gives none
        top1[norm] = result.video_top1
    print(", ".join(f"{norm} {value:.1f} %" for norm, value in top1.items()))
    return top1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], epochs=4)
