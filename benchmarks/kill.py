"""Kill training runs at random moments, start them again with the same command, and compare with one never killed.

    python benchmarks/kill.py --json --kills 30

Each run trains a tiny net on the embedded motions: two epochs, a checkpoint after every other step, validations, the
final test. Kills (SIGKILL) fall anywhere in a run, in an optimizer step, while a checkpoint is written, on a reading
process, in a validation and in the test, with 0, 1 and 2 reading processes, for each of VARIANTS. A folder is killed
in up to three times and then left to finish. `identical` counts the kills of runs that end like the reference bit for
bit: weights, optimizer, schedule, loops, curves (CSV and TensorBoard), results and predictions. `torn` counts
checkpoints found damaged after a kill, `litter` files that a run never killed does not leave and processes that
outlive their run.
"""

import argparse
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.processes import children, end, survivors, wait
from benchmarks.remains import digest, files, torn

WORDS = (
    "epochs=2", "batch=4", "num_clips=2", "model.width=8",
    "model.dropout=0.5", "crop=32", "clip_len=8", "span=16", "trainer.accelerator=cpu", "save_every_steps=2",
    "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1",
)  # fmt: skip
MOTIONS = {"train": 2, "val": 1, "test": 1}  # videos per class
DRAWN = tuple(f"data.{split}={count}" for split, count in MOTIONS.items())
VARIANTS = {
    "bn": (*DRAWN, "norm=bn", "precise_bn=2"),
    "gn": (*DRAWN, "norm=gn"),
    "damaged": ("data=folder", "data.root=FOLDER/damaged", "data.max_share=0.1"),  # one video of 24 is cut off
}
KILLS_PER_RUN = 3
MOMENTS = ("anywhere", "step", "save", "worker", "validation", "test")  # in the order of a run
PHASES = ("start", "step", "save", "validation", "test")  # what a run is doing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--moments", nargs="+", choices=MOMENTS, default=MOMENTS)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=tuple(VARIANTS))
    parser.add_argument("--workers", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--folder", type=Path, help="where the runs go; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vidgn-kill-"))
    os.environ.setdefault("VIDGN_CACHE", str(folder / "cache"))
    found = Killer(folder, seed=options.seed, moments=options.moments).kill(
        options.kills, variants=options.variants, workers=options.workers
    )
    if options.folder is None and found["identical"] == options.kills:
        shutil.rmtree(folder)
    print(json.dumps(found) if options.json else f"{found}", flush=True)


class Killer:
    """Kills runs and counts what became of them.

    Args:
        folder: of the runs.
        seed: of the moments.
        moments: to kill at.
    """

    def __init__(self, folder: Path, *, seed: int, moments: Sequence[str] = MOMENTS) -> None:
        self.folder = folder
        self.draw = random.Random(seed)
        self.moments = moments
        self.deck: list[str] = []
        self.fell: Counter[str] = Counter()  # what the runs were doing when they were killed
        self.shared = mmap.mmap(-1, 1 + len(PHASES))  # the phase of the run, and how often each was entered
        self.duration = 0.0  # of a whole run, seconds

    def kill(self, kills: int, *, variants: Sequence[str], workers: Sequence[int]) -> dict[str, int]:
        """Kill `kills` times; return the counts."""
        found = {"kills": 0, "identical": 0, "torn": 0, "litter": 0}
        references: dict[str, tuple[dict[str, str], set[str]]] = {}
        number = 0
        while found["kills"] < kills:
            variant = variants[number % len(variants)]
            readers = workers[(number + number // len(workers)) % len(workers)]
            if variant not in references:
                references[variant] = self.reference(variant, readers=workers[-1])
            expected, names = references[variant]
            run = self.folder / f"run{number}"
            done = self.kill_run(run, variant, readers, most=kills - found["kills"], found=found)
            same = digest(run) == expected
            found["kills"] += done
            found["identical"] += done * same
            litter = sorted(files(run) - names)
            found["litter"] += len(litter)
            said = ["identical" if same else "DIFFERENT", *(f"left {name}" for name in litter)]
            print(f"run {number}, {variant}, {readers} workers: {done} kills, {', '.join(said)}", flush=True)
            number += 1
        print(f"killed in: {', '.join(f'{name} {count}' for name, count in sorted(self.fell.items()))}", flush=True)
        return found

    def reference(self, variant: str, *, readers: int) -> tuple[dict[str, str], set[str]]:
        """Train twice without a kill, with 0 and with `readers` reading processes; return what is left."""
        if variant == "damaged":
            damage(self.folder / "damaged")
        found = []
        for count in (0, readers):
            began = time.monotonic()
            run = self.folder / f"{variant}-{count}-workers"
            wait(self.start(run, variant, readers=count))
            self.duration = time.monotonic() - began
            found.append((digest(run), files(run)))
        if found[0] != found[-1]:
            parts = [name for name in found[0][0] if found[0][0][name] != found[-1][0][name]] or ["the names of files"]
            raise SystemExit(f"two runs that nobody killed differ in {', '.join(parts)}; others cannot be compared")
        return found[0]

    def kill_run(self, run: Path, variant: str, readers: int, *, most: int, found: dict[str, int]) -> int:
        """Kill a run up to `most` times and let it finish; return how often it was killed."""
        done = 0
        for moment in self._moments(min(KILLS_PER_RUN, most)):
            process = self.start(run, variant, readers=readers)
            if not self._kill_at(moment, process):
                break  # it had finished before
            done += 1
            found["torn"] += torn(run / "checkpoints")
            if left := survivors(process):
                found["litter"] += len(left)
                print(f"{run.name}: {len(left)} processes outlived it, killed at: {moment}", flush=True)
                os.killpg(process, signal.SIGKILL)
        wait(self.start(run, variant, readers=readers))
        return done

    def _moments(self, count: int) -> list[str]:
        """Draw moments, each as often as the others, in the order in which they come in a run."""
        if len(self.deck) < count:
            more = list(self.moments)
            self.draw.shuffle(more)
            self.deck += more
        drawn, self.deck = self.deck[:count], self.deck[count:]
        return sorted(drawn, key=MOMENTS.index)

    def _kill_at(self, moment: str, process: int) -> bool:
        """Kill a run, or a reading process of it; return whether it lived until then."""
        phase = {"worker": "step"}.get(moment, moment)
        if moment == "anywhere":
            wanted, pause = 0, self.draw.uniform(0.0, 0.9) * self.duration
        else:
            wanted, pause = self.draw.randint(1, 2), self.draw.uniform(0.0, 0.06)
        while moment != "anywhere" and self.shared[1 + PHASES.index(phase)] < wanted:
            if os.waitpid(process, os.WNOHANG)[0]:
                return False
            time.sleep(0.0002)
        time.sleep(pause)
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        reading = children(process)
        if moment == "worker" and reading:
            os.kill(self.draw.choice(reading), signal.SIGKILL)
            self.fell["worker"] += 1
            return end(process) != 0
        os.kill(process, signal.SIGKILL)
        self.fell[PHASES[self.shared[0]]] += 1
        os.waitpid(process, 0)
        return True

    def start(self, run: Path, variant: str, *, readers: int) -> int:
        """Start a run in a child of this process, which has imported all that it needs; return its id."""
        import vidgn.training.train  # noqa: F401  # before the fork, so that the runs start quickly
        from vidgn.detection.dispatch import train_task
        from vidgn.runs.command_line import command

        self.shared[:] = bytes(len(self.shared))
        process = os.fork()
        if process:
            return process
        os.setpgid(0, 0)
        run.parent.mkdir(parents=True, exist_ok=True)
        with (run.parent / f"{run.name}.log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        show_phases(self.shared)
        words = [word.replace("FOLDER", str(self.folder)) for word in VARIANTS[variant]]
        sys.argv = ["train.py", *WORDS, *words, f"data.num_workers={readers}", f"hydra.run.dir={run}"]
        status = 0
        try:
            command("train")(train_task)()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)


def damage(folder: Path) -> None:
    """Write the videos again, with one that training reads cut off in its middle."""
    from vidgn.data.synthetic.motions import MotionsSpec, prepare_motions

    if folder.exists():
        return
    shutil.copytree(prepare_motions(Path(os.environ["VIDGN_CACHE"]), spec=MotionsSpec(**MOTIONS)), folder)
    video = sorted((folder / "train").rglob("*.mp4"))[5]
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])


def show_phases(shared: mmap.mmap) -> None:
    """Let this process show in shared memory what it is doing."""
    from vidgn.callbacks.checkpointing import Keep
    from vidgn.classifier import VideoClassifier

    def show(owner: type, name: str, phase: int) -> None:
        real = getattr(owner, name)

        def call(*args: object, **kwargs: object) -> object:
            before, shared[0] = shared[0], phase
            shared[1 + phase] = min(255, shared[1 + phase] + 1)
            try:
                return real(*args, **kwargs)
            finally:
                shared[0] = before

        setattr(owner, name, call)

    show(VideoClassifier, "optimizer_step", PHASES.index("step"))  # forward, backward and update
    show(Keep, "save", PHASES.index("save"))
    show(VideoClassifier, "validation_step", PHASES.index("validation"))
    show(VideoClassifier, "test_step", PHASES.index("test"))


if __name__ == "__main__":
    main()
