"""The ledger holds each bad video once, for every process of a run, and ends a run with too many."""

import multiprocessing

import pytest

from vidgn.data.quarantine import Quarantine, TooManyBadVideos


def ledger(tmp_path, **options):
    return Quarantine(tmp_path / "run" / "quarantine.jsonl", **({"num_videos": 100, "max_share": 0.03} | options))


def test_a_video_is_written_down_once(tmp_path):
    quarantine = ledger(tmp_path)
    assert len(quarantine) == 0
    assert quarantine.add("a.mp4", "truncated", seconds=1.23456)
    assert not quarantine.add("a.mp4", "other words", seconds=1)
    assert "a.mp4" in quarantine
    assert "b.mp4" not in quarantine
    (row,) = ledger(tmp_path).rows()
    assert (row.video, row.error, row.seconds) == ("a.mp4", "truncated", 1.235)
    assert row.time > 1.7e9


def test_what_another_process_writes_is_seen(tmp_path):
    ours, theirs = ledger(tmp_path), ledger(tmp_path)
    assert "x\nü.mp4" not in ours
    theirs.add("x\nü.mp4", "bad", seconds=0)
    assert "x\nü.mp4" in ours
    assert len(ours) == 1


def fill(folder, first):
    for number in range(first, first + 20):
        ledger(folder, max_share=1).add(f"{number}.mp4", "bad", seconds=0)


def test_processes_write_at_the_same_time(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(tmp_path, first)) for first in (0, 10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    rows = ledger(tmp_path).rows()
    assert sorted(int(row.video[:-4]) for row in rows) == list(range(30))


def test_an_unfinished_line_is_dropped(tmp_path):
    quarantine = ledger(tmp_path)
    quarantine.add("a.mp4", "bad", seconds=0)
    with open(quarantine.path, "a") as file:
        file.write('{"video": "b')  # also what a reader sees of a line that another process is writing
    assert len(ledger(tmp_path)) == 1
    quarantine.add("c.mp4", "bad", seconds=0)
    assert [row.video for row in ledger(tmp_path).rows()] == ["a.mp4", "c.mp4"]


def test_too_many_bad_videos_end_the_run_with_the_list(tmp_path):
    quarantine = ledger(tmp_path)
    for name in "abc":
        quarantine.add(name, "bad", seconds=0)
    with pytest.raises(
        TooManyBadVideos, match=r"4 of 100 training videos .* max_share \(0\.03\).*\n  a: bad\n(.*\n)+  d: cut"
    ):
        quarantine.add("d", "cut", seconds=0)


@pytest.mark.parametrize(
    ("options", "text"), [({"num_videos": 0}, r"num_videos \(0\)"), ({"max_share": 1.5}, r"max_share \(1\.5\)")]
)
def test_numbers_out_of_range_are_refused(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        ledger(tmp_path, **options)
