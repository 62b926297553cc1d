"""Views of many videos are scored in full groups, each once, and what comes out does not depend on the groups."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgn.scores.predictions import Begun
from vidgn.scores.scoring import ViewScorer


@dataclass
class Piece:
    """Constant views of one video; the pixel is the class that the scorer below sees."""

    video: int
    pixels: list[int]
    label: int = 0
    error: str | None = None
    first_view: int = 0
    total_views: int = -1
    num_views: int = -1
    shape: tuple[int, ...] = (3, 2, 2, 2)

    def __post_init__(self):
        self.num_views = len(self.pixels) if self.num_views < 0 else self.num_views
        self.total_views = self.num_views if self.total_views < 0 else self.total_views

    def views(self):
        for pixel in [] if self.error else self.pixels:
            yield torch.full(self.shape, pixel, dtype=torch.uint8)


class Net:
    """Scores 0.1, 0.2, ... of a class for the pixels 1, 2, ...; keeps the shapes and pixels that it saw."""

    def __init__(self):
        self.shapes, self.pixels = [], []

    def __call__(self, clips):
        self.shapes.append(tuple(clips.shape))
        self.pixels.append(clips[:, 0, 0, 0, 0].tolist())
        first = clips[:, 0, 0, 0, 0].float() / 10
        return torch.stack([first, 1 - first], 1)


def scored(pieces, *, group, net=None):
    scorer = ViewScorer(net or Net(), group=group)
    return [*scorer.add(pieces), *scorer.finish()]


def test_a_group_goes_across_videos_and_the_last_one_is_filled_up():
    net = Net()
    found = scored([Piece(7, [1, 2, 3]), Piece(8, [4, 5], label=1)], group=4, net=net)
    assert net.shapes == [(4, 3, 2, 2, 2)] * 2
    assert net.pixels == [[1, 2, 3, 4], [5, 0, 0, 0]]
    assert [prediction.video for prediction in found] == [7, 8]
    assert found[0].scores == pytest.approx((0.2, 0.8))
    assert found[1].scores == pytest.approx((0.45, 0.55))
    assert [prediction[4:] for prediction in found] == [(3, 0, 3), (2, 1, 2)]  # views, right, among five


def test_a_video_is_done_as_soon_as_its_last_view_is_scored():
    scorer = ViewScorer(Net(), group=2)
    assert [p.video for p in scorer.add([Piece(0, [1, 2, 3])])] == []
    assert [p.video for p in scorer.add([Piece(1, [4])])] == [0, 1]
    assert list(scorer.finish()) == []


def test_a_video_that_cannot_be_read_waits_for_nobody():
    scorer = ViewScorer(Net(), group=8)
    found = list(scorer.add([Piece(0, [1]), Piece(1, [], error="b: empty file", num_views=1, total_views=1)]))
    assert [(p.video, p.scores, p.error, p.views) for p in found] == [(1, None, "b: empty file", 0)]
    assert [p.video for p in scorer.finish()] == [0]


def test_a_video_of_which_one_piece_cannot_be_read_has_failed():
    pieces = [
        Piece(3, [1, 2], total_views=4),
        Piece(3, [], first_view=2, num_views=2, total_views=4, error="c: damaged"),
    ]
    (found,) = scored(pieces, group=3)
    assert (found.scores, found.error, found.views) == (None, "c: damaged", 0)


def test_pieces_of_a_video_are_one_video():
    whole = scored([Piece(3, [1, 2, 3, 4])], group=3)
    pieces = [Piece(3, [1, 2, 3], total_views=4), Piece(3, [4], first_view=3, total_views=4)]
    assert scored(pieces, group=3) == whole


def long_video(number, num_pieces, *, first=0):
    """Pieces of three views each, from piece `first` on."""
    views = [[1 + (number + 3 * piece + view) % 9 for view in range(3)] for piece in range(num_pieces)]
    total = 3 * num_pieces
    return [Piece(number, views[k], first_view=3 * k, total_views=total) for k in range(first, num_pieces)]


@pytest.mark.parametrize("group", [1, 2, 4, 5])
def test_a_test_that_was_interrupted_between_pieces_goes_on_there_with_the_same_bits(group):
    noted = []
    scorer = ViewScorer(Net(), group=group, record=noted.append)
    found = [*scorer.add([*long_video(6, 5), *long_video(7, 4)]), *scorer.finish()]
    assert len(noted) == {1: 7, 2: 7, 4: 5, 5: 4}[group]  # once in a piece at most, never in the first of a video
    for part in noted:
        net, again = Net(), []
        scorer = ViewScorer(net, group=group, begun={part.video: part}, record=again.append)
        pieces = long_video(part.video, {6: 5, 7: 4}[part.video], first=part.views // 3)
        (prediction,) = [*scorer.add(pieces), *scorer.finish()]
        assert prediction == found[part.video - 6]
        scored_again = sum(pixel > 0 for pixels in net.pixels for pixel in pixels)
        assert scored_again == prediction.views - part.views
        assert all(later.views > part.views for later in again)


def test_what_is_known_of_a_video_in_part_is_the_sum_of_its_first_views():
    noted = []
    list(ViewScorer(Net(), group=2, record=noted.append).add(long_video(1, 2)))  # pixels 2, 3, 4, 5, 6, 7
    (part,) = noted
    assert (part.video, part.views, part.views_top1, part.views_top5) == (1, 4, 1, 4)  # 0.5 and 0.5: the first class
    assert part.sums == pytest.approx((1.4, 2.6))


def test_a_video_that_is_one_piece_is_never_known_in_part():
    noted = []
    scorer = ViewScorer(Net(), group=2, record=noted.append)
    assert len([*scorer.add([Piece(0, [1, 2, 3]), Piece(1, [4, 5])]), *scorer.finish()]) == 2
    assert noted == []


@pytest.mark.parametrize("first", [0, 1, 3])  # of pieces; an interrupted test was in the piece with number 2
def test_a_video_in_part_that_goes_on_elsewhere_ends_the_test(first):
    begun = Begun(6, 7, (3.0, 4.0), 0, 7)
    scorer = ViewScorer(Net(), group=2, begun={6: begun})
    with pytest.raises(RuntimeError, match=f"view {3 * first} came where 7 was due"):
        list(scorer.add(long_video(6, 5, first=first)))


def test_views_of_other_sizes_never_share_a_group_and_few_groups_are_open():
    net = Net()
    sizes = [(3, 2, 2, 2 + k) for k in range(6)]
    scorer = ViewScorer(net, group=2)
    found = list(scorer.add([Piece(k, [k], shape=size) for k, size in enumerate(sizes)]))
    assert [p.video for p in found] == [0, 1]  # the oldest two of six had to make room
    assert net.shapes == [(2, *sizes[0]), (2, *sizes[1])]
    assert [p.video for p in scorer.finish()] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        # a view twice
        ([Piece(4, [1, 2], total_views=3), Piece(4, [2, 3], first_view=1, total_views=3)], "view 1 came where 2 was"),
        # the second piece is lost
        ([Piece(4, [1, 2], total_views=4)], "2 views came instead of 4"),
        # the first piece is lost
        ([Piece(4, [3, 4], first_view=2, total_views=4)], "view 2 came where 0 was due"),
        # a piece that holds fewer views than it says, and one that holds more
        ([Piece(4, [1], num_views=2)], "1 views came instead of 2"),
        ([Piece(4, [1, 2, 3], num_views=2)], "more than 2 views came"),
        # pieces that hold none
        ([Piece(4, [])], "0 views came instead of 0"),
        ([Piece(4, [], num_views=2)], "0 views came instead of 2"),
    ],
)
def test_a_view_that_is_missing_or_double_ends_the_test(pieces, message):
    with pytest.raises(RuntimeError, match=f"video 4 of the manifest: {message}.*each view must be scored once"):
        scored(pieces, group=2)


def test_a_test_that_is_cut_short_leaves_out_a_video_that_lacks_views():
    scorer = ViewScorer(Net(), group=4)
    assert list(scorer.add([Piece(0, [1]), Piece(1, [2, 3], total_views=4)])) == []
    assert [p.video for p in scorer.finish_early()] == [0]
    assert list(scorer.finish()) == []


def test_scores_that_are_no_numbers_are_an_error():
    with pytest.raises(FloatingPointError, match="the scores of video 4 of the manifest are not finite"):
        scored([Piece(4, [1])], group=2, net=lambda clips: torch.full((len(clips), 2), torch.nan))


def test_an_empty_group_is_refused():
    with pytest.raises(ValueError, match=r"view_batch \(0\) must be at least 1 view"):
        ViewScorer(Net(), group=0)


VIDEOS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), max_size=8)


@settings(max_examples=60, deadline=None)
@given(VIDEOS, st.integers(1, 9), st.lists(st.integers(0, 7), max_size=3), st.data())
def test_any_groups_and_pieces_score_each_view_once(videos, group, cuts, data):
    pieces = []
    for number, pixels in enumerate(videos):
        shape = (3, 2, 2, 2 + data.draw(st.integers(0, 5)))
        bounds = sorted({0, *(cut for cut in cuts if cut < len(pixels)), len(pixels)})
        for first, end in pairwise(bounds):
            pieces.append(Piece(number, pixels[first:end], first_view=first, total_views=len(pixels), shape=shape))
    net = Net()
    found = scored(pieces, group=group, net=net)
    assert sorted(p.video for p in found) == list(range(len(videos)))
    assert {shape[0] for shape in net.shapes} <= {group}
    seen = sorted(pixel for pixels in net.pixels for pixel in pixels if pixel)
    assert seen == sorted(pixel for pixels in videos for pixel in pixels)
    for prediction in found:
        total = torch.zeros((), dtype=torch.float64)
        for pixel in videos[prediction.video]:  # one after the other, as a group of one would
            total += (torch.tensor(float(pixel)) / 10).double()
        assert prediction.scores[0] == float(total / len(videos[prediction.video]))  # the same bits
