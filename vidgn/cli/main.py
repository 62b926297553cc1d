"""The command `vidgn`: one subcommand per question; what a subcommand needs is imported when it runs.

Exit status: 0 all is well; 1 the answer is "no" (a video failed, a check found something broken); 2 the command
cannot be carried out as it was typed, and one sentence says why.
"""

import atexit
import os
import sys
import threading
from collections.abc import Sequence

import typer

from vidgn.cli import data, jobs, kinetics, models, training, videos
from vidgn.terminal.escape import escaped
from vidgn.terminal.streams import take_utf8_names

USAGE_ERROR = 2  # exit status
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Video classification with group normalization: train, score and use video models.",
    epilog="Start with: vidgn doctor",
)
for name, job, example in (
    ("train", jobs.train_command, "vidgn train data=folder data.root=DIR norm=gn"),
    ("eval", jobs.eval_command, "vidgn eval ckpt=runs/NAME"),
):
    app.command(name, context_settings=jobs.PASS_ON, epilog=f"Example: {example}")(job)
for command, example in (
    (videos.predict_command, "vidgn predict clip.mp4 --ckpt runs/NAME"),
    (videos.features, "vidgn features clip.mp4 --ckpt runs/NAME --layer res5 --window 64 --stride 32"),
    (videos.explain_command, "vidgn explain clip.mp4 --ckpt runs/NAME --out explained"),
    (videos.serve, "vidgn serve --ckpt runs/NAME"),
    (data.scan_command, "vidgn scan DIR passport.parquet"),
    (data.prepare_command, "vidgn prepare SRC DST --short-side 256 --gop 12"),
    (training.show_batch, "vidgn show-batch data=folder data.root=DIR mixup=0.8 randaugment=9"),
    (training.probe_command, "vidgn probe ckpt=runs/NAME data=folder data.root=DIR"),
    (
        training.search_command,
        "vidgn search 'optim.lr=tag(log,interval(0.001,0.3))' norm=gn,bn data=folder data.root=DIR",
    ),
    (training.compare_command, "vidgn compare runs/bn runs/gn"),
    (models.report, "vidgn report runs/gn runs/bn --out report"),
    (models.export, "vidgn export --ckpt runs/NAME --to onnx clip.mp4"),
    (models.convert_weights_command, "vidgn convert-weights runs/bn --norm gn --out gn.ckpt"),
    (models.push, "vidgn push me/i3d-gn --ckpt runs/NAME"),
    (models.pull, "vidgn pull me/i3d-gn --out model"),
    (models.model, "vidgn model --summary --model i3d_r50 --clip-len 64"),
    (models.bench, "vidgn bench --explain --model i3d_r50 --clip-len 32"),
    (models.replay_command, "vidgn replay runs/NAME/nonfinite-step12.pt"),
    (models.doctor, "vidgn doctor"),
    (kinetics.reproduce, "vidgn reproduce --check data.root=DIR"),
):
    name = command.__name__.removesuffix("_command").replace("_", "-")
    app.command(name, epilog=f"Example: {example}")(command)


def run() -> None:
    """Run the process's command line and end the process at once, after its exit handlers.

    The interpreter's own end calls the destructors of torch's CUDA libraries, which read 115 MB from the disk only to
    be gone: an eighth of the memory of a small job.
    """
    take_utf8_names()
    try:
        main()
    except SystemExit as stop:
        others = [thread for thread in threading.enumerate() if not thread.daemon]
        if len(others) > 1 or not (stop.code is None or isinstance(stop.code, int)):
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.code or 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line `arguments` (default: the process's own) and exit.

    A user's mistake is one sentence on stderr and status 2; VIDGN_TRACEBACK=1 shows where it was noticed.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="vidgn")
    except BrokenPipeError:  # `vidgn ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except _users_errors() as err:
        if os.environ.get("VIDGN_TRACEBACK") == "1":
            raise
        print(f"error: {_sentence(err)}", file=escaped(sys.stderr))
        sys.exit(USAGE_ERROR)


def _sentence(err: BaseException) -> str:
    if isinstance(err, OSError) and err.filename is not None and err.strerror is not None:
        return f"{err.filename}: {err.strerror}"
    return str(err)


def _users_errors() -> tuple[type[Exception], ...]:
    from vidgn.data.faults.isolated_read import ReaderKilled
    from vidgn.data.loading.workers import WorkerDied
    from vidgn.data.readers.types import VideoDecodeError

    return (ValueError, OSError, ImportError, FloatingPointError, VideoDecodeError, ReaderKilled, WorkerDied)
