"""Score a checkpoint: `python eval.py ckpt=PATH`.

Data, norm, clip and crop are in the checkpoint; words that change them are listed in configs/eval.yaml.
"""

from vidgn.evaluation.evaluate import evaluate_checkpoint
from vidgn.runs.command_line import command

if __name__ == "__main__":
    command("eval")(evaluate_checkpoint)()
