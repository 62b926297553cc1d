"""Train a video classifier, then test its best checkpoint: `python train.py clip_len=64 batch=4 norm=gn`.

Options are listed in configs/train.yaml; `vidgn train --options` shows them with their choices.
"""

from vidgn.detection.dispatch import choose_options
from vidgn.runs.command_line import Composed, command


def train(composed: Composed) -> object:
    """Train and test; torch is imported only after the options are checked."""
    from vidgn.detection.dispatch import train_task

    return train_task(composed)


if __name__ == "__main__":
    command("train", choose_options=choose_options)(train)()
