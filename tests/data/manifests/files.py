"""Empty files that tests of manifests lay out."""

from pathlib import Path


def touch(root: Path, *names: str) -> Path:
    """Make empty files below a folder and return it."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root
