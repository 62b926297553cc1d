import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vidgn.data.clips import ClipSpec
from vidgn.data.faults.quarantine import BadVideo, TooManyBadVideos
from vidgn.data.loading import shared_memory
from vidgn.data.loading.workers import WorkerDied, end_with_parent
from vidgn.data.module import DataSpec, VideoDataModule, ViewSpec, default_workers, mirror_changes, read_manifests
from vidgn.data.transforms import CropSpec

SPEC = DataSpec("motions", train=1, val=1, test=1, flip=False, num_workers=0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def manifests(cache):
    return read_manifests(DataSpec("motions", root=str(cache), train=1, val=1, test=1))


def module(manifests, *, spec=SPEC, **changes):
    settings = {
        "clip": ClipSpec(8, 16),
        "crop": CropSpec(32),
        "test": ViewSpec(num_clips=2, num_crops=1),
        "batch": 4,
    }
    return VideoDataModule(manifests, spec=spec, **{**settings, **changes})


def test_motions_are_twelve_classes_in_three_splits(manifests):
    assert {split: len(manifest) for split, manifest in manifests.items()} == {"train": 12, "val": 12, "test": 12}
    assert len(manifests["train"].classes) == 12


def test_motions_are_kept_in_the_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path))
    found = read_manifests(DataSpec("motions", train=1, val=1, test=1))
    assert found["train"].root.startswith(str(tmp_path))


def test_training_batches_are_clips_and_change_with_the_epoch(manifests):
    loader = module(manifests).train_dataloader()
    first = list(loader)
    assert [tuple(batch.clips.shape) for batch in first] == [(4, 1, 3, 8, 32, 32)] * 3
    assert sorted(torch.cat([batch.videos for batch in first]).tolist()) == list(range(12))
    loader.batch_sampler.set_epoch(1)
    second = list(loader)
    assert [batch.videos.tolist() for batch in first] != [batch.videos.tolist() for batch in second]


@pytest.mark.slow
def test_workers_change_nothing(manifests):
    batches = [
        list(module(manifests, spec=DataSpec("motions", flip=False, num_workers=count)).train_dataloader())
        for count in (0, 1, 2)
    ]
    for one, other in ((0, 1), (0, 2)):
        for a, b in zip(batches[one], batches[other], strict=True):
            assert torch.equal(a.clips, b.clips)
            assert torch.equal(a.videos, b.videos)


def test_the_workers_of_all_loaders_end_with_the_run(manifests):
    data = module(manifests, spec=replace(SPEC, num_workers=1))
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    assert [loader.worker_init_fn for loader in loaders] == [end_with_parent] * 3


def test_validation_is_one_clip_per_video_and_every_video(manifests):
    batches = list(module(manifests, batch=5).val_dataloader())
    assert torch.cat([batch.videos for batch in batches]).tolist() == list(range(12))


def test_the_test_gives_all_views_of_every_video(manifests):
    batches = list(module(manifests, test_batch=5).test_dataloader())
    assert torch.cat([batch.videos for batch in batches]).tolist() == list(range(12))
    views = [tuple(view.shape) for batch in batches for item in batch.items for view in item.views()]
    assert views == [(3, 8, 37, 37)] * 24


def test_a_drawn_split_of_a_folder_has_all_videos_once(manifests):
    found = read_manifests(DataSpec("folder", root=manifests["train"].root))  # it has train/, val/ and test/
    assert [len(found[split]) for split in ("train", "val", "test")] == [12, 12, 12]


def test_a_validation_list_with_fewer_classes_keeps_the_numbering(tmp_path, manifests):
    header = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "train.csv").write_text(header + "jump,aaaaaaaaaaa,1,11,train\nrun,bbbbbbbbbbb,1,11,train\n")
    (tmp_path / "val.csv").write_text(header + "run,ccccccccccc,1,11,val\n")
    spec = DataSpec("kinetics400", root=str(tmp_path), train=str(tmp_path / "train.csv"), val=str(tmp_path / "val.csv"))
    found = read_manifests(spec)
    assert found["val"].classes == ("jump", "run")
    np.testing.assert_array_equal(found["val"].labels, [1])
    assert found["test"] is found["val"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec("ucf"), r"data.name \(ucf\) is unknown; use one of motions, folder, kinetics400"),
        (DataSpec("folder"), r"data=folder needs the folder of the videos; set data.root=DIR"),
    ],
)
def test_a_wrong_data_set_is_named(spec, message):
    with pytest.raises(ValueError, match=message):
        read_manifests(spec)


def test_a_wrong_batch_is_named(manifests):
    with pytest.raises(ValueError, match=r"batch \(0\) must be at least 1"):
        module(manifests, batch=0)
    with pytest.raises(ValueError, match=r"batch \(13\) is more than the 12 training videos; set batch=12"):
        module(manifests, batch=13).train_dataloader()
    with pytest.raises(ValueError, match=r"data.num_workers \(-1\) must be 0 or more"):
        module(manifests, spec=DataSpec("motions", num_workers=-1)).train_dataloader()


def test_the_default_number_of_workers_is_that_of_the_cores():
    assert default_workers() == min(8, len(os.sched_getaffinity(0)))


def test_classes_that_a_mirror_changes_are_not_mirrored(manifests):
    assert mirror_changes(["throw", "upright", "bright light"]) == []
    assert mirror_changes(["swipe_left", "TurnRight", "ccw"]) == ["swipe_left", "TurnRight", "ccw"]
    chosen = module(manifests, spec=DataSpec("motions", num_workers=0)).train_dataloader().dataset
    assert chosen.flip is False  # motions has left and right
    forced = module(manifests, spec=DataSpec("motions", num_workers=0, flip=True)).train_dataloader().dataset
    assert forced.flip is True


def test_several_clips_of_a_video_count_as_clips_of_the_batch(manifests):
    loader = module(manifests, batch=4, spec=replace(SPEC, clips_per_video=2)).train_dataloader()
    first = list(loader)
    assert [tuple(batch.clips.shape) for batch in first] == [(2, 2, 3, 8, 32, 32)] * 6
    assert next(iter(module(manifests, spec=replace(SPEC, clips_per_video=2)).val_dataloader())).clips.shape[1] == 1
    with pytest.raises(ValueError, match=r"data\.clips_per_video \(3\) must divide batch \(4\), which counts clips"):
        module(manifests, spec=replace(SPEC, clips_per_video=3))
    test_alone = module({"test": manifests["test"]}, batch=1, spec=replace(SPEC, clips_per_video=3))  # of a checkpoint
    assert len(list(test_alone.test_dataloader())) == len(manifests["test"])


def test_bad_videos_are_part_of_the_state_and_limited_from_the_start(manifests, tmp_path):
    ours = module(manifests, spec=replace(SPEC, max_share=0.1), ledger=tmp_path / "a.jsonl")
    ours.train_dataloader()
    bad = BadVideo("x.mp4", "cut", "train", 3, 1, 0.5, 1.7e9)
    ours.quarantine.add(bad)
    state = ours.state_dict()
    assert state["quarantine"] == [bad._asdict()]
    theirs = module(manifests, spec=replace(SPEC, max_share=0.1), ledger=tmp_path / "b.jsonl")
    theirs.load_state_dict(state)
    assert theirs.quarantine.rows() == [bad]
    assert theirs.train_dataloader().state_dict()["num_items"] == 12
    with pytest.raises(TooManyBadVideos, match=r"1 of 12 training videos .* data\.max_share \(0\.01\)"):
        module(manifests, ledger=tmp_path / "b.jsonl").train_dataloader()
    assert module(manifests, spec=replace(SPEC, strict=True), ledger=tmp_path / "b.jsonl").quarantine is None


def test_deadlines_reach_the_loaders(manifests):
    ours = module(manifests, spec=replace(SPEC, deadline_seconds=7, num_workers=2))
    loaders = (ours.train_dataloader(), ours.val_dataloader(), ours.test_dataloader())
    assert [loader.timeout for loader in loaders] == [10, 10, 10]  # three seconds to say so
    assert [loader.dataset.deadline_seconds for loader in loaders] == [7, 7, 7]
    assert module(manifests, spec=replace(SPEC, deadline_seconds=None, num_workers=2)).train_dataloader().timeout == 0


def test_what_does_not_fit_into_shared_memory_is_said_before_training(manifests, monkeypatch):
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda folder: SimpleNamespace(free=200_000))
    ours = module(manifests, spec=replace(SPEC, num_workers=1))  # six batches of 4 x 3 x 8 x 32 x 32 bytes
    with pytest.raises(OSError, match=r"1 workers read ahead up to 1 MB of batches, but /dev/shm has 0 MB free"):
        ours.train_dataloader()
    module(manifests).train_dataloader()


def test_what_does_not_fit_into_shared_memory_is_said_before_the_test(manifests, monkeypatch):
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100_000))
    ours = module(manifests, spec=replace(SPEC, num_workers=1))  # three pieces of 2 x 8 frames of 3 x 37 x 37 bytes
    with pytest.raises(OSError, match=r"1 workers read ahead up to 0 MB of batches, but /dev/shm has 0 MB free"):
        ours.test_dataloader()
    module(manifests).test_dataloader()
    enough = SimpleNamespace(free=3 * 2 * 8 * 3 * 37 * 37)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda folder: enough)
    ours.test_dataloader()


def test_a_death_that_torch_tells_of_anywhere_is_explained(manifests):
    ours = module(manifests)
    died = WorkerDied("worker 7 was killed")
    ours._loaders = [SimpleNamespace(explain=lambda err: died if "DataLoader worker" in str(err) else None)]
    with pytest.raises(WorkerDied, match="worker 7 was killed"):
        ours.on_exception(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))
    ours.on_exception(RuntimeError("something else"))
    ours._loaders = [SimpleNamespace(explain=lambda err: None)]  # it was starting its workers
    with pytest.raises(WorkerDied, match=r"worker 7 was killed by signal 9 \(SIGKILL\) while it read an unknown video"):
        ours.on_exception(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))


def test_a_validation_may_have_several_clips_of_each_video(manifests):
    one, several = module(manifests), module(manifests, val_clips=2)
    single = torch.cat([batch.clips for batch in one.val_dataloader()])
    batches = list(several.val_dataloader())
    assert [batch.clips.shape[:2] for batch in batches] == [(2, 2)] * 6  # as many clips in a batch as before
    clips = torch.cat([batch.clips for batch in batches])
    assert torch.equal(clips[:, :1], single)  # the first clip is that of a validation with one
    assert not torch.equal(clips[:, 0], clips[:, 1])
    assert next(iter(several.train_dataloader())).clips.shape[1] == 1


def test_a_validation_may_have_more_clips_of_a_video_than_a_batch(manifests):
    batches = list(module(manifests, val_clips=5).val_dataloader())
    assert [batch.clips.shape[:2] for batch in batches] == [(1, 5)] * 12


def test_a_validation_has_at_least_one_clip_of_each_video(manifests):
    with pytest.raises(ValueError, match=r"val_clips \(0\) must be at least 1 clip per video"):
        module(manifests, val_clips=0)
