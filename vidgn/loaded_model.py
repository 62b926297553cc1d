"""A trained model that scores videos: `vidgn.load`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vidgn.checkpoints.description import KEY
from vidgn.data.clips import ClipSpec
from vidgn.files.temporary import temporary_folder
from vidgn.files.whole_files import write_whole
from vidgn.models.net import VideoNet

if TYPE_CHECKING:
    from vidgn.data.readers.types import Reader
    from vidgn.inference.explain import Explanation
    from vidgn.inference.model import ScoringModel
    from vidgn.inference.predict import Segment


class ClassScore(NamedTuple):
    """A class and its score in 0..1."""

    name: str
    score: float


class LoadedModel:
    """A trained model that is ready to score videos; `vidgn.load` returns it.

    A video is a path, or frames in memory: uint8 (T, H, W, 3), RGB.

    Attributes:
        net: the network, in evaluation mode.
        classes: class names, index = label.
        clip: the frames of a clip: `clip_len`, `span`, `stride`.
    """

    def __init__(self, model: "ScoringModel", *, step: int = 0, epoch: int = 0) -> None:
        self._model = model
        self._counts = {"global_step": step, "epoch": epoch}

    @property
    def net(self) -> VideoNet:
        """The network."""
        net = self._model.classifier.net
        assert isinstance(net, VideoNet)
        return net

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, index = label."""
        return self._model.classes

    @property
    def clip(self) -> ClipSpec:
        """The frames of a clip."""
        return self._model.clip

    def scores(self, video: "str | Path | NDArray[np.uint8]") -> NDArray[np.float64]:
        """Return the score of each class, float64 (Q,), summing to 1: the same numbers as `vidgn eval`.

        Raises:
            OSError, VideoDecodeError: the video cannot be read.
            TypeError, ValueError: an array is not uint8 (T, H, W, 3).
        """
        from vidgn.inference.predict import choose_test, predict_open

        with _open(video, self._model) as reader:
            return np.array(predict_open(reader, self._model, test=choose_test(self._model)))

    def predict(
        self, videos: "str | Path | NDArray[np.uint8] | Sequence[str | Path]", *, top: int = 5
    ) -> list[ClassScore] | list[list[ClassScore]]:
        """Name the action in a video, or in each of several.

        Args:
            videos: one video, or a list of paths.
            top: classes per video.

        Returns:
            The best classes of the video with their scores, best first; for a list of videos a list of such lists.

        Raises:
            ValueError: `top` is less than 1.
            OSError, VideoDecodeError: a video cannot be read.
        """
        if top < 1:
            raise ValueError(f"top ({top}) must be at least 1 class.")
        if isinstance(videos, (str, Path, np.ndarray)):
            return self._best(self.scores(videos), top)
        return [self._best(self.scores(video), top) for video in videos]

    def timeline(self, video: "str | Path | NDArray[np.uint8]", *, stride: int | None = None) -> "list[Segment]":
        """Return what happens when: a window slides over the video, equal neighbours are joined.

        Args:
            video: of any length.
            stride: raw frames between windows; None: the span of a clip, so that windows touch.

        Raises:
            OSError, VideoDecodeError: the video cannot be read.
        """
        from vidgn.inference.predict import segments, timeline

        with _open(video, self._model) as reader:
            windows = list(timeline(reader, self._model, stride=stride))
            return segments(windows, self.classes, seconds=reader.seconds())

    def features(
        self, video: "str | Path | NDArray[np.uint8]", *, layer: str = "last", stride: int | None = None
    ) -> NDArray[np.float32]:
        """Return what a stage puts out for each window of a video, averaged over positions: float32 (n, C).

        Args:
            video: of any length.
            layer: `res2` to `res5`; `last`: the last one that the net has.
            stride: raw frames between windows; None: the span of a clip.

        Raises:
            ValueError: the net has no such stage.
            OSError, VideoDecodeError: the video cannot be read.
        """
        from vidgn.inference.features import extract

        with _open(video, self._model) as reader:
            arrays = extract(reader, self._model, layer=layer, clip=self.clip, stride=stride or self.clip.span)
        features: NDArray[np.float32] = arrays["features"]
        return features

    def explain(self, video: "str | Path | NDArray[np.uint8]", *, name: str | None = None) -> "Explanation":
        """Return where and when the net looks (Grad-CAM): class, score, window and `heat`, float32 (T, S, S) in 0..1.

        Args:
            video: the window where the class scores highest is explained.
            name: the class; None: the best one.

        Raises:
            ValueError: an unknown class.
            OSError, VideoDecodeError: the video cannot be read.
        """
        from vidgn.inference.explain import explain_video

        with _open(video, self._model) as reader:
            return explain_video(reader, self._model, name=name)

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint that `vidgn.load`, `vidgn eval ckpt=` and `vidgn train init=` take.

        Raises:
            FileExistsError: there is such a file already.
            OSError: it cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists already; give another name, or remove it first.")
        tensors = {f"net.{key}": value.detach().cpu() for key, value in self.net.state_dict().items()}
        state = {KEY: self._model.description.to_plain(), "state_dict": tensors, **self._counts}
        write_whole(path, lambda file: torch.save(state, file))
        return path

    def _best(self, scores: NDArray[np.float64], top: int) -> list[ClassScore]:
        from vidgn.evaluation.answers import top_answers

        best = top_answers(scores.tolist(), self.classes, self._model.description.targets, top)
        return [ClassScore(name, float(score)) for name, score in best]


def load(source: str | Path, *, device: str = "auto") -> LoadedModel:
    """Load a trained model.

    Args:
        source: a run folder of `vidgn train`, a checkpoint, a published video checkpoint (docs/weights.md), or
            `hub:USER/NAME` for one that `vidgn push` wrote.
        device: auto, cpu, cuda or cuda:1.

    Raises:
        FileNotFoundError: there is no such file, or a folder without a checkpoint.
        ValueError: the file is damaged or of an unknown format, or there is no such device.

    Example:
        >>> model = vidgn.load("runs/motions")  # doctest: +SKIP
        >>> model.predict("clip.mp4", top=1)  # doctest: +SKIP
        [ClassScore(name='right', score=0.98)]
    """
    from vidgn.checkpoints.checkpoint import read_checkpoint
    from vidgn.inference.model import open_model

    if str(source).startswith("hub:"):
        from vidgn.inference.hub import fetch_run

        with temporary_folder() as folder:  # also removed where SIGTERM ends the process
            return load(fetch_run(str(source).removeprefix("hub:"), folder / "run"), device=device)
    model = open_model(source, device=device, fused=False)
    try:
        checkpoint = read_checkpoint(model.path)
    except ValueError:  # a published file: it does not count steps
        return LoadedModel(model)
    return LoadedModel(model, step=checkpoint.step, epoch=checkpoint.epoch)


@contextmanager
def _open(video: "str | Path | NDArray[np.uint8]", model: "ScoringModel") -> "Iterator[Reader]":
    from vidgn.data.array import ArrayReader, as_reader

    source = ArrayReader(video) if isinstance(video, np.ndarray) else video
    with as_reader(source, backend=model.description.backend) as reader:
        yield reader
