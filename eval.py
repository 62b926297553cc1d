"""Score a checkpoint: `python eval.py ckpt=PATH`.

Data, norm, clip and crop are in the checkpoint; words that change them are listed in configs/eval.yaml.
"""

from omegaconf import DictConfig

from vidgn.runs.command_line import command


def evaluate(config: DictConfig) -> object:
    """Test a checkpoint; torch is imported only after the options are checked."""
    from vidgn.detection.dispatch import evaluate_task

    return evaluate_task(config)


if __name__ == "__main__":
    command("eval")(evaluate)()
