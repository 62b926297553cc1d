"""A drawn split depends on the seed and the names; what a run used stays as it was."""

import pytest

from vidgn.data.manifests.drawn_split import SplitRecord, draw_split
from vidgn.data.manifests.manifest import Manifest

FRACTIONS = (0.7, 0.15, 0.15)


def videos(**counts):
    return {label: [f"{label}/{number:03d}.mp4" for number in range(count)] for label, count in counts.items()}


def draw(names, *, seed=0, record=None):
    return draw_split(names, seed=seed, fractions=FRACTIONS, record=record)


def moved(before, after):
    return [name for name in before.keys() & after.keys() if before[name] != after[name]]


def by_part(parts):
    return {part: [name for name in parts if parts[name] == part] for part in ("train", "val", "test")}


def test_every_class_gets_its_share_of_each_part():
    parts = draw(videos(a=20, b=100, c=3, d=4))
    counts = {label: [sum(parts[n] == p for n in names) for p in ("train", "val", "test")]
              for label, names in videos(a=20, b=100, c=3, d=4).items()}  # fmt: skip
    assert counts == {"a": [14, 3, 3], "b": [70, 15, 15], "c": [1, 1, 1], "d": [2, 1, 1]}


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 37, 200])
def test_removing_a_video_moves_at_most_one_other_across_each_border(count):
    names = videos(a=count)
    whole = draw(names)
    for lost in names["a"]:
        part = draw({"a": [name for name in names["a"] if name != lost]})
        crossed = moved(whole, part)
        assert len(crossed) <= 2
        assert all({whole[name], part[name]} != {"val", "test"} for name in crossed)


def test_a_video_in_front_and_a_new_class_move_nothing_of_another_class():
    before = draw(videos(a=20, b=20))
    after = draw({"a": ["a/!first.mp4", *videos(a=20)["a"]], "aa": videos(aa=5)["aa"], "b": videos(b=20)["b"]})
    assert [name for name in moved(before, after) if name.startswith("b/")] == []
    assert len(moved(before, after)) <= 2


def test_seeds_draw_other_splits_and_the_order_of_a_listing_does_not_matter():
    names = videos(a=40)
    assert draw(names) == draw({"a": names["a"][::-1]})
    assert draw(names) != draw(names, seed=1)


def test_files_that_differ_in_their_suffix_alone_stay_together():
    names = {"a": [f"a/{number}.{suffix}" for number in range(30) for suffix in ("avi", "mp4")]}
    parts = draw(names)
    assert all(parts[f"a/{number}.avi"] == parts[f"a/{number}.mp4"] for number in range(30))


def test_what_a_record_knows_keeps_its_part_whatever_is_added_or_removed():
    names = videos(a=20, b=20)
    before = draw(names)
    record = SplitRecord.of(by_part(before), seed=0)
    added = {"a": [*(f"a/!{number}.mp4" for number in range(50)), *names["a"]], "b": names["b"][3:]}
    after = draw(added, record=record)
    assert moved(before, after) == []
    new = [after[name] for name in added["a"] if name not in before]
    assert {"train", "test"} <= set(new)
    one_left = {label: files[:1] for label, files in names.items()}
    assert draw(one_left, record=record) == {label[0]: before[label[0]] for label in one_left.values()}


def test_a_class_of_two_videos_that_no_record_knows_is_an_error():
    with pytest.raises(ValueError, match=r"at least 3 videos per class.*too few in b \(2\)"):
        draw(videos(a=3, b=2))
    record = SplitRecord.of(by_part(draw(videos(a=3))), seed=0)
    with pytest.raises(ValueError, match=r"too few in b \(2\)"):
        draw(videos(a=3, b=2), record=record)


def test_a_record_is_plain_compact_and_comes_back():
    parts = by_part(draw(videos(a=300)))
    first = SplitRecord.of(parts, seed=7)
    plain = first.plain()
    assert all(isinstance(value, str | int) for value in plain.values())
    assert sum(len(value) for value in plain.values() if isinstance(value, str)) <= 11 * 300
    again = SplitRecord.from_plain(plain)
    assert again.seed == 7
    names = videos(a=300)["a"]
    assert again.part_of(names) == first.part_of(names)
    assert again.part_of(["a/000.avi", "b/000.mp4"]) == [first.part_of(["a/000.mp4"])[0], None]
    assert SplitRecord.from_plain(None) is None


def test_a_part_of_one_video_knows_it():
    record = SplitRecord.of({"train": ["a/1.mp4"], "val": [], "test": ["a/2.mp4"]}, seed=0)
    assert record.part_of(["a/2.mp4", "a/1.mp4", "a/3.mp4"]) == ["test", "train", None]
    assert record.trained_on(["a/1.mp4", "a/2.mp4"]) == ["a/1.mp4"]


def test_what_was_trained_on_is_remembered_over_generations():
    first = SplitRecord.of({"train": ["a/1.mp4"], "val": ["a/2.mp4"], "test": ["a/3.mp4"]})
    second = SplitRecord.of({"train": ["b/1.mp4"], "val": [], "test": []}, earlier=first)
    third = SplitRecord.from_plain(SplitRecord.of({"train": ["c/1.mp4"]}, earlier=second).plain())
    assert third.trained_on(["a/2.mp4", "c/1.mkv", "b/1.mp4", "a/1.mp4"]) == ["c/1.mkv", "b/1.mp4", "a/1.mp4"]
    assert first.trained_on(["b/1.mp4", "a/3.mp4"]) == []


@pytest.mark.parametrize(
    "plain",
    [{}, {"before": "", "seed": "x"}, {"before": "!", "seed": None}, {"before": "AAAA", "seed": 0},
     {"before": "", "seed": 0, "train": 3}, [1]],
)  # fmt: skip
def test_a_damaged_record_is_one_sentence(plain):
    with pytest.raises(ValueError, match=r"split in the checkpoint is damaged .*use another checkpoint"):
        SplitRecord.from_plain(plain)


def test_a_folder_keeps_to_a_record_and_to_its_seed(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(20):
            (tmp_path / label / f"{number:02d}.mp4").touch()
    parts = {part: Manifest.from_folder(tmp_path, split=part, seed=5) for part in ("train", "val", "test")}
    names = {part: [m.video_id(row) for row in range(len(m))] for part, m in parts.items()}
    assert parts["test"].drawn_seed == 5
    assert parts["test"].select([0]).drawn_seed == 5
    record = SplitRecord.of(names, seed=5)
    (tmp_path / "a" / "00.mp4").unlink()
    (tmp_path / "b" / "!.mp4").touch()
    test = Manifest.from_folder(tmp_path, split="test", record=record)
    left = [test.video_id(row) for row in range(len(test))]
    assert test.drawn_seed == 5
    assert set(left) - {"b/!.mp4"} == set(names["test"]) - {"a/00.mp4"}
    assert "39 videos keep the part that the checkpoint names, 1 are new to it" in test.notes[0]


def test_a_folder_with_its_own_split_needs_no_record(tmp_path):
    for name in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.mp4").touch()
    record = SplitRecord.of({"train": ["train/a/1.mp4"], "val": [], "test": []}, seed=3)
    train = Manifest.from_folder(tmp_path, split="train", record=record)
    assert (len(train), train.drawn_seed) == (2, None)


def test_no_video_of_the_part_is_one_sentence(tmp_path):
    names = {}
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.mp4").touch()
    for part in ("train", "val", "test"):
        manifest = Manifest.from_folder(tmp_path, split=part)
        names[part] = [manifest.video_id(row) for row in range(len(manifest))]
    for name in names["test"]:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"no video is left in the drawn test part"):
        Manifest.from_folder(tmp_path, split="test", record=SplitRecord.of(names, seed=0))


def test_hashes_are_the_same_on_every_machine():
    """The oracle is `printf run/1 | b2sum -l 64`."""
    record = SplitRecord.of({"train": ["run/1.mp4", "run/2.mp4"]})
    assert [f"{value:016x}" for value in record.parts["train"].tolist()] == ["45590f3110c267de", "ad0b3cadc69a5571"]
