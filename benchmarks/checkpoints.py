"""Kill a process that saves, fill the disk under it, and damage what it saved.

    TMPDIR=EMPTY python benchmarks/checkpoints.py --kills 100 --full 20 --mutants 500 --folder DIR

Prints, last, {"kills": N, "torn": 0, "lost": 0, "litter": 0, "full": F, "kept": F, "mutants": M, "detected": M}:
checkpoints found damaged or gone after a SIGKILL and files left beside them after the next start; saves onto a full
disk (a tmpfs, which only root may mount) that ended with a sentence, left the file before as it was and nothing else,
and could be done again after space was freed; damaged copies (cut off, one bit, a hole of zeros, empty) of which
reading says so.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from vidgn.checkpoints.checkpoint import read_state
from vidgn.files.whole_files import clean_leftovers, last_name, rotate, sum_of, write_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full", type=int, default=20)
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--megabytes", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vidgn-saves")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    result = {
        **kill(options.kills, options.folder, options.megabytes, draw),
        **fill(options.full, options.folder / "disk", options.megabytes, draw),
        **mutate(options.mutants, options.folder, draw),
    }
    print(json.dumps(result), flush=True)


def kill(kills: int, folder: Path, megabytes: int, draw: random.Random) -> dict[str, int]:
    found = {"kills": kills, "torn": 0, "lost": 0, "litter": 0}
    state = {"weights": torch.randn(megabytes, 1 << 18)}
    save(folder, state)
    for _ in range(kills):
        process = os.fork()
        if not process:
            for _ in itertools.count():
                save(folder, state)
        time.sleep(draw.uniform(0.02, 0.3))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        for age in (0, 1):
            path = folder / last_name(age)
            if not path.exists():
                found["lost"] += age == 0
                continue
            try:
                read_state(path)
            except ValueError:
                found["torn"] += 1
        clean_leftovers(folder)
        kept = {f"{last_name(age)}{end}" for age in (0, 1) for end in ("", ".sha256")}
        found["litter"] += len({path.name for path in folder.iterdir() if path.is_file()} - kept)
        found["litter"] += len(os.listdir(os.environ["TMPDIR"])) if "TMPDIR" in os.environ else 0
    return found


def save(folder: Path, state: dict[str, torch.Tensor]) -> None:
    rotate(folder, keep=2)
    write_whole(folder / last_name(0), lambda file: torch.save(state, file))


def fill(times: int, folder: Path, megabytes: int, draw: random.Random) -> dict[str, int]:
    """Save where a random part of the file is too much for the disk."""
    found = {"full": times, "kept": 0}
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={4 * megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        save(folder, {"weights": torch.zeros(megabytes, 1 << 18)})
        for number in range(1, times + 1):
            before = sum_of(folder / last_name(0)), sorted(path.name for path in folder.iterdir())
            free = shutil.disk_usage(folder).free
            (folder / "ballast").write_bytes(bytes(free - draw.randrange(megabytes << 20)))
            state = {"weights": torch.full((megabytes, 1 << 18), float(number))}
            said = ""
            try:
                write_whole(folder / last_name(0), lambda file, state=state: torch.save(state, file))
            except OSError as err:
                said = str(err)
            (folder / "ballast").unlink()
            after = sum_of(folder / last_name(0)), sorted(path.name for path in folder.iterdir())
            read_state(folder / last_name(0))
            save(folder, state)
            again = float(read_state(folder / last_name(0))["weights"][0, 0]) == number
            found["kept"] += "could not be written (No space left on device)" in said and before == after and again
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    return found


def mutate(mutants: int, folder: Path, draw: random.Random) -> dict[str, int]:
    folder = folder / "mutants"
    folder.mkdir(exist_ok=True)
    path = folder / "last.ckpt"
    write_whole(path, lambda file: torch.save({"weights": torch.randn(100, 100)}, file))
    whole = path.read_bytes()
    detected = 0
    for number in range(mutants):
        data = bytearray(whole)
        place = draw.randrange(len(data))
        if number % 4 == 0:
            del data[place:]
        elif number % 4 == 1:
            data[place] ^= 1 << draw.randrange(8)
        elif number % 4 == 2:
            hole = slice(place, min(len(data), place + 512))
            data[hole] = bytes(byte ^ 255 for byte in data[hole])
        else:
            data = bytearray(draw.randbytes(draw.randrange(200)))
        path.write_bytes(data)
        try:
            read_state(path)
        except ValueError:
            detected += 1
    return {"mutants": mutants, "detected": detected}


if __name__ == "__main__":
    main()
