"""A manifest whose rows may be segments: several rows of one file, each with its own beginning and end."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.storage.excerpt import Interval, Unit


@dataclass(frozen=True, eq=False, repr=False)
class ExcerptManifest(Manifest):
    """Videos, or segments of videos; the name of a segment is its file's with `#t=START,END` or `#f=START,END`.

    Attributes:
        starts: Where each begins, float64 (N,); NaN: with its file.
        ends: Where each ends, float64 (N,); NaN: with its file.
        unit: Of both.
    """

    starts: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(0))
    ends: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(0))
    unit: Unit = "seconds"

    def file_name(self, index: int) -> str:
        """Return the name of the file that a row is cut from."""
        name, segment = self.video_id(index), self.segment(index)
        return name if segment is None else name.removesuffix(f"#{segment}")

    def segment(self, index: int) -> Interval | None:
        """Return the part of its file that a row is; None: the whole file."""
        return segment_of(float(self.starts[index]), float(self.ends[index]), self.unit)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a manifest of these rows, in this order, with the same classes."""
        index = np.arange(len(self))[np.asarray(rows, np.int64)]
        return dataclasses.replace(super().select(rows), starts=self.starts[index], ends=self.ends[index])


def segment_of(start: float, end: float, unit: Unit) -> Interval | None:
    """Return a segment, None for the whole video; NaN stands for a missing bound."""
    first, last = (None if math.isnan(value) else value for value in (start, end))
    return None if first is None and last is None else Interval(first, last, unit)
