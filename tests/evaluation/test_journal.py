"""What a test has scored so far is whole lines, by one key, of videos that could be read."""

from array import array

import pytest

from vidgn.evaluation.journal import Journal
from vidgn.scores.predictions import Begun, Prediction

GOOD = Prediction(3, 1, array("d", [0.1, 1 / 3]), None, 10, 9, 10)
KEY = {"clips": 10}


def test_what_is_written_is_read_with_all_digits_by_any_rank(tmp_path):
    Journal(tmp_path, rank=0, key=KEY).add(GOOD)
    Journal(tmp_path, rank=1, key=KEY).add(GOOD._replace(video=4))
    assert Journal(tmp_path, rank=7, key=KEY).read() == {3: GOOD, 4: GOOD._replace(video=4)}


def test_a_video_that_could_not_be_read_is_tried_again(tmp_path):
    journal = Journal(tmp_path, rank=0, key=KEY)
    journal.add(Prediction(5, 1, None, "b.mp4: no such file"))
    assert journal.read() == {}
    journal.add(GOOD._replace(video=5))
    assert list(journal.read()) == [5]


@pytest.mark.slow
def test_a_line_that_was_cut_off_is_mended(tmp_path):
    Journal(tmp_path, rank=0, key=KEY).add(GOOD)
    path = tmp_path / "predictions.rank0.jsonl"
    path.write_text(path.read_text() + "[7, 1, [0.")
    again = Journal(tmp_path, rank=0, key=KEY)
    assert list(again.read()) == [3]
    again.add(GOOD._replace(video=8))
    assert list(again.read()) == [3, 8]


@pytest.mark.slow
def test_a_video_in_part_is_no_prediction_and_the_one_with_most_views_counts(tmp_path):
    ranks = [Journal(tmp_path, rank=rank, key=KEY) for rank in range(2)]
    parts = [Begun(5, views, (0.1 * views, 1 / 3), 2, views) for views in (30, 10, 20)]
    for part, rank in zip(parts, (0, 1, 1), strict=True):
        ranks[rank].add_begun(part)
    ranks[1].add(GOOD)
    assert Journal(tmp_path, rank=0, key=KEY).read() == {3: GOOD}
    assert Journal(tmp_path, rank=0, key=KEY).read_begun() == {5: parts[0]}
    assert Journal(tmp_path, rank=0, key={}).read_begun() == {}


@pytest.mark.slow
@pytest.mark.parametrize("line", ['{"begun": [5, 1, [0.5], 1}', '{"begun": 3}', '{"begun": [1, 2]}'])
def test_a_whole_line_that_is_no_video_in_part_is_named(tmp_path, line):
    journal = Journal(tmp_path, rank=0, key=KEY)
    journal.add(GOOD)
    journal.path.write_text(journal.path.read_text() + line + "\n")
    assert journal.read() == {3: GOOD}
    with pytest.raises(ValueError, match=r"predictions\.rank0\.jsonl is damaged .* remove it"):
        journal.read_begun()


@pytest.mark.slow
@pytest.mark.parametrize("line", ["{", "[1]", "3", "[1, 2, 0.5, null]"])
def test_a_whole_line_that_is_no_prediction_is_named(tmp_path, line):
    journal = Journal(tmp_path, rank=0, key=KEY)
    journal.add(GOOD)
    journal.path.write_text(journal.path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"predictions\.rank0\.jsonl is damaged .* remove it"):
        journal.read()


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{\n", "null\n", '{"key": 1}\n[3, 1, [1.0], null]\n', "\0\n"])
def test_a_file_without_our_key_does_not_count(tmp_path, content):
    (tmp_path / "predictions.rank0.jsonl").write_text(content)
    assert Journal(tmp_path, rank=1, key=KEY).read() == {}


def test_a_video_whose_file_changed_is_scored_again(tmp_path):
    stamps = {3: "10 bytes, 1 ns", 4: "10 bytes, 1 ns", 5: None}
    journal = Journal(tmp_path, rank=0, key=KEY, stamp=stamps.get)
    for video in (3, 4, 5):
        journal.add(GOOD._replace(video=video))
        journal.add_begun(Begun(video, 10, (0.5,), 1, 2))
    stamps[4] = "10 bytes, 2 ns"
    again = Journal(tmp_path, rank=0, key=KEY, stamp=stamps.get)
    assert list(again.read()) == [3, 5]
    assert list(again.read_begun()) == [3, 5]


@pytest.mark.slow
def test_what_differs_from_a_journal_that_lies_there_is_told(tmp_path):
    Journal(tmp_path, rank=0, key={"clips": 10, "quantize": None}).add(GOOD)
    assert Journal(tmp_path, rank=0, key={"clips": 10, "quantize": None}).others() == {}
    other = Journal(tmp_path, rank=1, key={"clips": 10, "quantize": "int8", "fuse": True})
    assert other.read() == {}
    assert other.others() == {"quantize": (None, "int8"), "fuse": (None, True)}
    (tmp_path / "predictions.rank0.jsonl").write_text("{")
    assert other.others() == {}
