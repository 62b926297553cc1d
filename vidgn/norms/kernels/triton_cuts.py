"""How the kernels are cut into programs: one measured row where there is one, else a rule.

`benchmarks/gpu.py --tune` times the candidates at every site of the net and prints the rows of `MEASURED`.
"""

from typing import Literal, NamedTuple

Direction = Literal["forward", "backward"]


class Cut(NamedTuple):
    """One way to cut a group norm into programs.

    Args:
        resident: one program per sample and group, instead of chunks of pixels and a merge.
        tile: elements of a tile of the split kernels, a power of two.
        warps: warps of a program of the large kernels.
        programs: programs per multiprocessor that the split reductions aim at.
    """

    resident: bool
    tile: int
    warps: int
    programs: int


class Site(NamedTuple):
    """What decides the cut: samples N, pixels S, channels C, groups G, bytes of an element, and the layout."""

    N: int
    S: int
    C: int
    G: int
    itemsize: int
    channels_last: bool


def choose_cut(site: Site, *, direction: Direction) -> Cut:
    """Choose how a site is cut: the measured row of its kind, or the rule."""
    return MEASURED.get(row_key(site, direction=direction)) or rule(site, direction=direction)


def row_key(site: Site, *, direction: Direction) -> tuple[str, bool, int, int, int]:
    """Name the row of a site: sites whose S and N round up to the same powers of two share one."""
    return (direction, site.channels_last, site.C // site.G, padded(site.S), padded(site.N * site.G))


def rule(site: Site, *, direction: Direction) -> Cut:
    """Cut by size: resident where a group fits the registers of one program and fills whole sectors."""
    depth = site.C // site.G
    elements = padded(site.S) * padded(depth)
    limit = RESIDENT_ELEMENTS if direction == "forward" else RESIDENT_ELEMENTS // 2  # x and dy are held
    run = (depth if site.channels_last else site.S * depth) * site.itemsize
    resident = elements <= limit and run >= SECTOR
    warps = min(16, max(4, elements // 2048)) if resident else 4
    return Cut(resident=resident, tile=4096, warps=warps, programs=4)


def padded(number: int) -> int:
    """Round up to a power of two, as Triton's tiles need.

    >>> [padded(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (number - 1).bit_length()


# Elements that one program holds: 16 warps of 32 threads with 64 each.
RESIDENT_ELEMENTS = 32768
SECTOR = 32  # bytes; the least that a GPU's memory hands out

# Filled by `benchmarks/gpu.py --tune`. Not yet measured: the rule decides everywhere.
MEASURED: dict[tuple[str, bool, int, int, int], Cut] = {}
