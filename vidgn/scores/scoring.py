"""Score the views of many videos in groups of one size, so that the device is full and no digit depends on company.

    views of video 0   views of video 1   views of video 2
    0 1 2 | 3 4 . .    0 1 2 | ...        group = 4: the last group of all is filled up with black views

What a network computes for one view depends on how many views it is given: libraries choose their kernels by the
shape of the whole input (oneDNN does so for 1, 2 and 4 views). It does not depend on the place in the group nor on
the other views where the norm is independent of the batch; `benchmarks/reliability.md` has the measurements. Hence
every group has the same size, and the views of a video are added up one by one in their order.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from vidgn.scores.predictions import Begun, Prediction, Ranks, label_ranks

_OPEN_SHAPES = 4  # groups being filled at a time: full frames of videos of different sizes


class Piece(Protocol):
    """Views of one video that come together (`vidgn.data.views.VideoViews`); a long video comes in several pieces."""

    @property
    def video(self) -> int:
        """Row of the manifest."""

    @property
    def label(self) -> int:
        """Class index."""

    @property
    def error(self) -> str | None:
        """Why the video could not be read; then there are no views."""

    @property
    def first_view(self) -> int:
        """Number of the first view in the video."""

    @property
    def num_views(self) -> int:
        """Views of this piece, also where they could not be read."""

    @property
    def total_views(self) -> int:
        """Views of the whole video."""

    def views(self) -> Iterator[Tensor]:
        """Yield uint8 (3,T,S,S')."""


class ViewScorer:
    """Turns pieces of videos into predictions.

    Args:
        scores: takes clips uint8 (group,3,T,S,S') to the softmax (group,Q).
        group: views per call.
        begun: what an interrupted test has scored of videos; of these the pieces come from the one it was in.
        record: called once in each piece of a video after its first, when all views that came are scored.
        ranks: takes scores (n,Q) and videos (n) to how many answers come before the right one, (n,); None: that of
            the label.

    Raises:
        ValueError: the group is empty.
    """

    def __init__(
        self,
        scores: Callable[[Tensor], Tensor],
        *,
        group: int,
        begun: Mapping[int, Begun] = MappingProxyType({}),
        record: Callable[[Begun], None] = lambda begun: None,
        ranks: Ranks | None = None,
    ) -> None:
        if group < 1:
            raise ValueError(f"view_batch ({group}) must be at least 1 view.")
        self.group = group
        self._scores = scores
        self._begun = begun
        self._record = record
        self._ranks = ranks or self._label_ranks
        self._videos: dict[int, _Video] = {}  # begun and not done
        self._groups: dict[tuple[int, ...], _Group] = {}  # by the shape of a view, the last one used at the end

    def add(self, pieces: Iterable[Piece]) -> Iterator[Prediction]:
        """Take pieces, those of a video in order; yield the predictions of the videos that are done.

        Raises:
            RuntimeError: a view came twice or is missing.
            FloatingPointError: scores are not finite.
        """
        for piece in pieces:
            if piece.video not in self._videos:
                self._videos[piece.video] = self._open(piece)
            video = self._videos[piece.video]
            scored, video.scored = video.scored, 0
            if piece.first_view + scored != video.taken:
                raise RuntimeError(_wrong(piece.video, f"view {piece.first_view} came where {video.taken} was due"))
            video.error = video.error or piece.error
            video.piece = piece.first_view
            end = piece.first_view + piece.num_views
            for view in islice(piece.views(), scored, None):
                video.taken += 1
                if video.taken > end:
                    raise RuntimeError(_wrong(piece.video, f"more than {piece.num_views} views came"))
                yield from self._place(view, piece.video)
            if piece.error is not None:
                video.taken = end
                yield from self._done(piece.video)
            if video.taken < end:
                received = video.taken - piece.first_view
                raise RuntimeError(_wrong(piece.video, f"{received} views came instead of {piece.num_views}"))

    def finish(self) -> Iterator[Prediction]:
        """Score the groups that are not full; yield the predictions that were still open.

        Raises:
            RuntimeError: views of a video are missing.
            FloatingPointError: scores are not finite.
        """
        yield from self._flush()
        for number, video in self._videos.items():
            raise RuntimeError(_wrong(number, f"{video.taken} views came instead of {video.total}"))

    def finish_early(self) -> Iterator[Prediction]:
        """Do the same in a test that was cut short on purpose: a video that lacks views is left out.

        Raises:
            FloatingPointError: scores are not finite.
        """
        yield from self._flush()
        self._videos.clear()

    def _open(self, piece: Piece) -> "_Video":
        """Begin with a video, or continue in the middle of one after an interruption."""
        video = _Video(piece.label, piece.total_views)
        begun = self._begun.get(piece.video)
        if begun is not None:
            video.taken, video.sum = begun.views, torch.tensor(begun.sums, dtype=torch.float64)
            video.counts = (begun.views, begun.views_top1, begun.views_top5)
            video.noted = piece.first_view
            video.scored = min(max(0, begun.views - piece.first_view), piece.num_views)
        return video

    def _flush(self) -> Iterator[Prediction]:
        for shape in list(self._groups):
            yield from self._run(self._groups.pop(shape))

    def _place(self, view: Tensor, number: int) -> Iterator[Prediction]:
        """Put a view into the group of its shape, which is scored when it is full."""
        shape = tuple(view.shape)
        if shape not in self._groups:
            if len(self._groups) == _OPEN_SHAPES:
                yield from self._run(self._groups.pop(next(iter(self._groups))))
            self._groups[shape] = _Group(view.new_zeros((self.group, *shape)))
        group = self._groups[shape] = self._groups.pop(shape)  # the last one used
        group.clips[len(group.numbers)] = view
        group.numbers.append(number)
        if len(group.numbers) == self.group:
            yield from self._run(group)

    def _run(self, group: "_Group") -> Iterator[Prediction]:
        """Score a group and empty it."""
        numbers, group.numbers = group.numbers, []
        if not numbers:
            return
        group.clips[len(numbers) :] = 0
        scores = self._scores(group.clips)[: len(numbers)]  # (n,Q)
        ranks: list[int] = self._ranks(scores, numbers).tolist()
        for number, row, rank in zip(numbers, scores.cpu().double(), ranks, strict=True):
            self._videos[number].count(row, rank)
        for number in dict.fromkeys(numbers):
            yield from self._done(number)
            self._note(number)

    def _label_ranks(self, scores: Tensor, numbers: Sequence[int]) -> Tensor:
        labels = torch.tensor([self._videos[number].label for number in numbers], device=scores.device)
        return label_ranks(scores, labels)

    def _done(self, number: int) -> Iterator[Prediction]:
        """Yield the prediction of a video if this was the last that was due."""
        video = self._videos[number]
        waiting = any(number in group.numbers for group in self._groups.values())
        if video.taken == video.total and not waiting:
            del self._videos[number]
            yield video.prediction(number)

    def _note(self, number: int) -> None:
        """Record how far a video is, where it is not done and nothing that came waits for its group."""
        video = self._videos.get(number)
        if video is not None and video.noted < video.piece and video.counts[0] == video.taken:
            assert video.sum is not None
            views, top1, top5 = video.counts
            self._record(Begun(number, views, tuple(video.sum.tolist()), top1, top5))
            video.noted = video.piece


@dataclass
class _Group:
    """Views of one shape, uint8 (group,3,T,S,S'), and the video of each."""

    clips: Tensor
    numbers: list[int] = field(default_factory=list)


@dataclass
class _Video:
    """What is known of one video so far; `taken` views have come."""

    label: int
    total: int
    taken: int = 0
    error: str | None = None
    sum: Tensor | None = None  # (Q,) float64
    counts: Sequence[int] = (0, 0, 0)  # views scored, right, right among five
    scored: int = 0  # views at the beginning of the next piece that an interrupted test has scored
    piece: int = 0  # first view of the piece that is read, and of that in which it was last recorded
    noted: int = 0

    def count(self, row: Tensor, rank: int) -> None:
        self.sum = row.clone() if self.sum is None else self.sum.add_(row)
        views, top1, top5 = self.counts
        self.counts = (views + 1, top1 + (rank < 1), top5 + (rank < 5))

    def prediction(self, number: int) -> Prediction:
        if self.error is not None:
            return Prediction(number, self.label, None, self.error)
        assert self.sum is not None
        assert self.counts[0] == self.total
        scores = self.sum / self.total
        if not bool(torch.isfinite(scores).all()):
            raise FloatingPointError(
                f"the scores of video {number} of the manifest are not finite; the weights may be spoilt, take an "
                "earlier checkpoint"
            )
        return Prediction(number, self.label, array("d", scores.tolist()), None, *self.counts)


def _wrong(number: int, what: str) -> str:
    return f"video {number} of the manifest: {what}; each view must be scored once, please report this"
