"""Tables and curves of the comparison of norms on real video."""

from pathlib import Path


def render(results: Path) -> str:
    """Return the cells that are done, one a line."""
    return "\n".join(sorted(file.stem for file in results.glob("*.json")))
