"""Kill a process that saves, and damage what it saved.

    python benchmarks/checkpoints.py --kills 100 --mutants 500 --folder DIR

Prints, last, {"kills": N, "torn": 0, "lost": 0, "litter": 0, "mutants": M, "detected": M}: checkpoints found damaged or
gone after a SIGKILL, files left beside them after the next start, and damaged copies (cut off, one bit, a hole of
zeros, empty) of which reading says so.
"""

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from vidgn.checkpoint import clean_leftovers, last_name, read_state, rotate, write_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--megabytes", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vidgn-saves")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    result = {
        **kill(options.kills, options.folder, options.megabytes, draw),
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
        found["litter"] += len({path.name for path in folder.iterdir()} - kept)
    return found


def save(folder: Path, state: dict[str, torch.Tensor]) -> None:
    rotate(folder, keep=2)
    write_whole(folder / last_name(0), lambda file: torch.save(state, file))


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
