"""The cells of the comparison, in the order in which they are run, and the file of each run."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.run import Cell
from experiments.settings import Setting
from experiments.videos import VideoSpec
from vidgn.optim import OptimSpec

_LATER = ("name", "betas", "layer_decay", "rates", "agc")  # fields of OptimSpec that the first results did not know
RESULTS = Path(__file__).parent / "results"

TABLE8 = tuple(Cell(norm, clip_len, batch) for clip_len, batch in ((32, 8), (32, 4), (64, 4)) for norm in ("bn", "gn"))
SMALLER = (Cell("bn", 32, 2), Cell("gn", 32, 2))  # Table 2's column of the smallest batch
RELATIVES = (
    Cell("sync_bn", 32, 2),
    Cell("batch_renorm", 32, 2),
    Cell("frozen_bn", 32, 2),
    Cell("sync_bn", 32, 4),
    Cell("batch_renorm", 32, 4),
    Cell("frozen_bn", 32, 4),
    Cell("ln", 32, 4),
    Cell("in", 32, 4),
)
# Table 3; G = 4 and the ends (ln: one group, in: one channel) are among the cells above.
GROUPS = (
    *(Cell("gn", 32, 4, num_groups=groups) for groups in (8, 2)),
    *(Cell("gn", 32, 4, channels=channels) for channels in (8, 4, 2)),
)


@dataclass(frozen=True)
class Job:
    """One run: a cell and a seed."""

    cell: Cell
    seed: int

    def path(self, folder: Path) -> Path:
        """Return the file of its numbers."""
        return folder / f"{self.cell.name}_s{self.seed}.json"


def jobs(seeds: int) -> Iterator[Job]:
    """Yield all runs: for each seed the cells of Table 8 and the smaller batch, then all relatives, then the groups."""
    for cells in ((*TABLE8, *SMALLER), RELATIVES, GROUPS):
        for seed in range(seeds):
            for cell in cells:
                yield Job(cell, seed)


def digest(what: Setting | VideoSpec) -> str:
    """Return a mark of a setting, which every result carries, or of what decides the pixels."""
    return sha256(json.dumps(_first_fields(asdict(what)), sort_keys=True).encode()).hexdigest()[:12]


def _first_fields(plain: dict[str, Any]) -> dict[str, Any]:
    """Leave out options of a recipe that came later and have their default: they change no result."""
    later = {key: value for key, value in asdict(OptimSpec()).items() if key in _LATER}
    return {
        key: _first_fields(value) if isinstance(value, dict) else value
        for key, value in plain.items()
        if key not in later or value != later[key]
    }


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read all runs of a folder, by cell and seed."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*_s*.json"))]


def read_starts(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the numbers of the starting weights, by name: `ancestor`, `sync_bn`, `gn`, ..."""
    return {path.stem.split("-", 2)[2]: json.loads(path.read_text()) for path in sorted(folder.glob("start-*.json"))}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)
