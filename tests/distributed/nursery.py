"""Forks the ranks of runs from one process that has imported everything, as torchrun would start them.

A request is a line of JSON on stdin (see `Request`), the answer a line on stdout: the exit status of each rank,
negative for a signal. What a rank prints goes to LOG.rankR.txt, and what it trains on to LOG.rankR.jsonl.
"""

import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
from typing import TypedDict

sys.path.insert(0, os.getcwd())


class Request(TypedDict):
    words: list[str]
    ranks: int
    log: str
    at_step: dict[
        str, list[object]
    ]  # rank -> [step, what it does there: names of signals, "wait", "raise", "full", or "nan" from it on]
    environment: dict[str, str]
    limit: float  # seconds


def main() -> None:
    import vidgn.training.train  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        request: Request = json.loads(line)
        print(json.dumps(run(request)), flush=True)


def run(request: Request) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [start(request, rank, port) for rank in range(request["ranks"])]
    statuses: dict[int, int] = {}
    latest = time.monotonic() + request["limit"]
    may_stop = any("SIGSTOP" in str(action) for _, action in request["at_step"].values())
    while len(statuses) < len(ranks):
        late = time.monotonic() > latest
        stopped = set(ranks) - set(statuses)
        over = late or (may_stop and stopped and all(is_stopped(rank) for rank in stopped))
        for rank in stopped:
            if over:
                os.kill(rank, signal.SIGKILL)
            ended, status = os.waitpid(rank, 0 if over else os.WNOHANG)
            if ended:
                statuses[rank] = os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return [statuses[rank] for rank in ranks]


def is_stopped(process: int) -> bool:
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def start(request: Request, rank: int, port: int) -> int:
    if process := os.fork():
        return process
    for number, suffix in ((1, "txt"), (2, "txt")):
        file = os.open(f"{request['log']}.rank{rank}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
    os.environ.update(request["environment"])
    if request["ranks"] > 1:
        be_rank(rank, request["ranks"], port)
    step, action = request["at_step"].get(str(rank), [-1, ""])
    watch(f"{request['log']}.rank{rank}.jsonl", step=step, action=action)
    from vidgn.detection.dispatch import train_task
    from vidgn.runs.command_line import command

    sys.argv = ["train.py", *request["words"]]
    status = 0
    try:
        command("train")(train_task)()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def be_rank(rank: int, ranks: int, port: int) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only.rank = rank  # read from the environment when Lightning was imported
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    local = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
    if "SLURM_JOB_ID" in os.environ:  # as srun starts them
        local = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NTASKS": ranks, "SLURM_NTASKS_PER_NODE": ranks}
    else:
        os.environ["TORCHELASTIC_RUN_ID"] = "test"
    os.environ.update({name: str(value) for name, value in local.items()})


def watch(path: str, *, step: int, action: str) -> None:
    """Write down the videos and the loss of every step, and do something in one of them."""
    from torch.distributed.tensor import DTensor

    from vidgn.callbacks.preemption import ECHO
    from vidgn.classifier import VideoClassifier

    real = VideoClassifier.training_step

    def training_step(self, batch, batch_idx):
        nonlocal action
        if self.global_step == step and action != "nan":
            if action == "raise":
                raise ValueError("a fault of this rank alone")
            if action == "full":  # no file may grow beyond 1 MB, as on a disk with no more room
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
                action = ""
            for name in action.split():
                if name == "wait":  # until a signal is no echo of the one before
                    time.sleep(ECHO + 0.1)
                else:
                    os.kill(os.getpid(), getattr(signal, name))
        loss = real(self, batch, batch_idx)
        if action == "nan" and self.global_step >= step:
            loss = loss * float("nan")
        groups = self.optimizers().param_groups
        weights = [weight for group in groups for weight in group["params"]]
        held = sum(weight.to_local().numel() if isinstance(weight, DTensor) else weight.numel() for weight in weights)
        with open(path, "a") as file:
            line = {"epoch": self.current_epoch, "videos": batch.videos.tolist(), "loss": loss.item()}
            file.write(json.dumps({**line, "rate": groups[0]["lr"], "held": held}) + "\n")
        return loss

    VideoClassifier.training_step = training_step


if __name__ == "__main__":
    main()
