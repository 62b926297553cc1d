"""Look at some videos of a data set without decoding them: sizes, frame rates, lengths."""

from pathlib import Path

import numpy as np

from vidgn.curation.inspect_file import known_length
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.passports.passport import VideoFacts
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video


def sample_facts(manifest: Manifest, *, count: int) -> list[VideoFacts]:
    """Open `count` videos, evenly spread over the manifest; those that are missing are left out.

    Frames are those the file's own index has; none is decoded, so that a broken picture is not noticed.

    Raises:
        ValueError: count is below 1.
    """
    if count < 1:
        raise ValueError(f"--sample ({count}) must be at least 1; 200 tell most.")
    missing = set(manifest.missing())
    names = [name for name in map(manifest.video_id, range(len(manifest))) if name not in missing]
    places = np.unique(np.linspace(0, max(0, len(names) - 1), min(count, len(names))).round().astype(int))
    return [_facts(Path(manifest.root), names[index]) for index in places.tolist()]


def _facts(root: Path, name: str) -> VideoFacts:
    blank = VideoFacts(
        id=name, path=str(root / name), label="", bytes=0, mtime=0, sha256="", codec="", width=0, height=0,
        rotation=0, fps=0.0, frames_promised=0, frames=0, duration=0.0, status="",
    )  # fmt: skip
    try:
        with open_video(root / name) as video:
            assert isinstance(video, PyavReader)
            facts = video.source.facts
            return blank._replace(
                codec=facts.codec, width=facts.width, height=facts.height, fps=round(video.fps, 3),
                frames=len(video), duration=known_length(video), status="ok",
            )  # fmt: skip
    except VideoDecodeError as err:
        return blank._replace(status=err.reason or "damaged")
