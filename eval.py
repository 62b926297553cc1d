"""Score a checkpoint: `python eval.py ckpt=PATH`.

Data, norm, clip and crop are in the checkpoint; words that change them are listed in configs/eval.yaml.
"""

from vidgn.runs.command_line import Composed, command


def evaluate(composed: Composed) -> object:
    """Test a checkpoint; torch is imported only after the options are checked."""
    from vidgn.detection.dispatch import evaluate_task

    return evaluate_task(composed)


if __name__ == "__main__":
    command("eval")(evaluate)()
