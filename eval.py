"""Score a checkpoint: `python eval.py ckpt=PATH`.

Data, norm, clip and crop are in the checkpoint; words that change them are listed in configs/eval.yaml.
"""

from vidgn.tools.config import command
from vidgn.tools.evaluate import evaluate_checkpoint

if __name__ == "__main__":
    command("eval")(evaluate_checkpoint)()
