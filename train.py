"""Train a video classifier, then test its best checkpoint: `python train.py clip_len=64 batch=4 norm=gn`.

Words are listed in configs/train.yaml, `python train.py --help` shows them with the choices.
"""

from vidgn.runs.command_line import command
from vidgn.training.train import train

if __name__ == "__main__":
    command("train")(train)()
