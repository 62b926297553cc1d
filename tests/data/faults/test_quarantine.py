"""The ledger holds each unreadable video once, for every process of a run, and ends a run with too many."""

import multiprocessing

import pytest

from vidgn.data.faults.quarantine import BadVideo, Quarantine, TooManyBadVideos


def ledger(tmp_path, **options):
    return Quarantine(tmp_path / "run" / "quarantine.jsonl", **({"num_videos": 100, "max_share": 0.03} | options))


def bad(video, error="cut", *, split="train", row=0, epoch=0):
    return BadVideo(video, error, split, row, epoch, seconds=1.5, time=1.7e9)


def test_a_video_is_written_down_once(tmp_path):
    quarantine = ledger(tmp_path)
    assert quarantine.count("train") == 0
    assert quarantine.add(bad("a.mp4", "truncated", row=4, epoch=2)) == 1
    assert quarantine.add(bad("a.mp4", "other words", row=4, epoch=3)) == 0
    assert (quarantine.count("train"), quarantine.count("val")) == (1, 0)
    (row,) = ledger(tmp_path).rows()
    assert row == BadVideo("a.mp4", "truncated", "train", row=4, epoch=2, seconds=1.5, time=1.7e9)


def test_a_video_is_bad_from_the_epoch_on_in_which_it_was_found(tmp_path):
    quarantine = ledger(tmp_path)
    quarantine.add(bad("a.mp4", row=4, epoch=2))
    assert [quarantine.holds("train", 4, "a.mp4", epoch=epoch) for epoch in range(4)] == [False, False, True, True]
    assert not quarantine.holds("val", 4, "a.mp4", epoch=2)  # another list
    assert not quarantine.holds("train", 5, "a.mp4", epoch=2)  # listed twice: another clip
    assert not quarantine.holds("train", 4, "b.mp4", epoch=2)


def test_what_another_process_writes_is_seen(tmp_path):
    ours, theirs = ledger(tmp_path), ledger(tmp_path)
    assert not ours.holds("train", 0, "x\nü.mp4", epoch=0)
    theirs.add(bad("x\nü.mp4"))
    assert ours.holds("train", 0, "x\nü.mp4", epoch=0)
    assert ours.count("train") == 1


def fill(folder, first):
    for number in range(first, first + 20):
        ledger(folder, max_share=1).add(bad(f"{number}.mp4", row=number))


@pytest.mark.slow
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
    quarantine.add(bad("a.mp4"))
    with open(quarantine.path, "a") as file:
        file.write('{"video": "b')  # also what a reader sees of a line that another process is writing
    assert ledger(tmp_path).count("train") == 1
    quarantine.add(bad("c.mp4"))
    assert [row.video for row in ledger(tmp_path).rows()] == ["a.mp4", "c.mp4"]


def test_too_many_bad_videos_end_the_run_with_the_list(tmp_path):
    quarantine = ledger(tmp_path)
    quarantine.add(*[bad(name, row=row) for row, name in enumerate("abc")])
    with pytest.raises(
        TooManyBadVideos, match=r"4 of 100 training videos .* data\.max_share \(0\.03\).*\n  a: cut\n(.*\n)+  d: cut"
    ):
        quarantine.add(bad("d", row=3))
    with pytest.raises(TooManyBadVideos, match="4 of 100"):  # a resumed run says so at once
        ledger(tmp_path).check()


def test_a_long_list_is_cut(tmp_path):
    with pytest.raises(TooManyBadVideos, match=r"(?s)60 of 100 .*\n  49\.mp4: cut\n  and 10 more$"):
        ledger(tmp_path).add(*[bad(f"{row}.mp4", row=row) for row in range(60)])


def test_bad_validation_videos_do_not_end_a_run(tmp_path):
    quarantine = ledger(tmp_path)
    assert quarantine.add(*[bad(f"{row}.mp4", row=row, split="val") for row in range(60)]) == 60
    assert (quarantine.count("train"), quarantine.count("val")) == (0, 60)


def test_a_run_that_goes_on_elsewhere_takes_its_bad_videos_along(tmp_path):
    here, there = ledger(tmp_path / "a"), ledger(tmp_path / "b")
    here.add(bad("a.mp4", row=4, epoch=2))
    saved = [row._asdict() for row in here.rows()]
    there.merge(saved)
    there.merge(saved)
    assert there.rows() == here.rows()
    there.merge([])


@pytest.mark.parametrize(
    ("options", "text"), [({"num_videos": 0}, r"num_videos \(0\)"), ({"max_share": 1.5}, r"data\.max_share \(1\.5\)")]
)
def test_numbers_out_of_range_are_refused(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        ledger(tmp_path, **options)
