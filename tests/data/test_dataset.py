"""From files to batches: which pixels an item holds, and that nothing but (seed, epoch, video) decides it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from vidgn.data import dataset, transforms
from vidgn.data.dataset import ClipBatch, ClipDataset, ClipSample
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

from .small_videos import CLIP, CROP, FILES, FakeReader, manifest


def clips(root: Path, *names: str, **options: object) -> ClipDataset:
    given = {"clip": CLIP, "crop": CROP, "seed": 0, "flip": True, "stream": "train", "deadline_seconds": None} | options
    return ClipDataset(manifest(root, *names), **given)  # type: ignore[arg-type]


def set_draws(monkeypatch: pytest.MonkeyPatch, *draws: float) -> None:
    monkeypatch.setattr(dataset, "random_draws", lambda seed, **place: np.array(draws))


class TestClips:
    def test_a_clip_holds_the_drawn_frames(
        self, tmp_path: Path, fake: type[FakeReader], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_draws(monkeypatch, 0.5, 0, 0, 0, 0)  # starts are 0..12: int(0.5 * 13) = 6
        sample = clips(tmp_path, "5_16x16", "20_16x16")[0, 1]
        assert (sample.clips.shape, sample.clips.dtype) == ((1, 3, 4, 14, 14), torch.uint8)
        assert sample.clips[0, 0, :, 0, 0].tolist() == [6, 8, 10, 12]
        assert (sample.clips == sample.clips[:, :1, :, :1, :1]).all()
        assert (sample.label, sample.video) == (1, 1)

    def test_a_short_video_loops(self, tmp_path: Path, fake: type[FakeReader], monkeypatch: pytest.MonkeyPatch) -> None:
        set_draws(monkeypatch, 0.9, 0, 0, 0, 0)
        assert clips(tmp_path, "5_16x16")[0, 0].clips[0, 0, :, 0, 0].tolist() == [0, 2, 4, 1]

    def test_all_clips_of_a_video_come_from_one_pass(self, tmp_path: Path, fake: type[FakeReader]) -> None:
        sample = clips(tmp_path, "200_20x30", clips_per_video=3)[0, 0]
        assert sample.clips.shape == (3, 3, 4, 14, 14)
        firsts = sample.clips[:, 0, :, 0, 0].tolist()
        assert all(clip == [clip[0] + step for step in (0, 2, 4, 6)] for clip in firsts)
        assert len({clip[0] for clip in firsts}) == 3
        assert (fake.opened, fake.passes) == (1, 1)

    def test_a_clip_is_resized_cut_and_mirrored_as_drawn(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # 21 frames of 24 x 32: start int(0.99 * 14) = 13; short side 16 + int(0.5 * 5) = 18, so 18 x 24;
        # top int(0.7 * 5) = 3; left int(0.2 * 11) = 2; mirrored. In stored pixels rows 3..17 are 4..22.67 -> 23 and
        # columns 2..16 are 2.67 -> 3..21.33 -> 21
        set_draws(monkeypatch, 0.99, 0.5, 0.7, 0.2, 0.49)
        ours = clips(files, *FILES)[0, 4].clips[0]
        with open_video(files / "4.mkv") as reader:
            frames = reader.read(np.array([13, 15, 17, 19]))
        theirs = transforms.resize(frames[:, 4:23, 3:21], size=(14, 14)).flip(-1)
        assert torch.equal(ours, theirs)

    def test_an_item_depends_on_seed_epoch_and_video_alone(self, files: Path) -> None:
        data = clips(files, *FILES)
        first = data[2, 4].clips
        _ = data[0, 1]
        assert torch.equal(data[2, 4].clips, first)
        assert torch.equal(clips(files, *FILES)[2, 4].clips, first)
        assert not torch.equal(data[3, 4].clips, first)
        assert not torch.equal(clips(files, *FILES, seed=1)[2, 4].clips, first)

    def test_validation_draws_its_own_clips_once_for_all_epochs(self, files: Path) -> None:
        val = clips(files, *FILES, stream="val")
        assert torch.equal(val[0, 4].clips, val[7, 4].clips)
        assert not torch.equal(val[0, 4].clips, clips(files, *FILES)[0, 4].clips)

    def test_more_clips_do_not_change_the_first(self, files: Path) -> None:
        three = clips(files, *FILES, clips_per_video=3)[0, 5].clips
        assert torch.equal(three[:1], clips(files, *FILES)[0, 5].clips)

    def test_a_broken_video_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        with pytest.raises(VideoDecodeError, match=r"broken\.mp4: "):
            clips(tmp_path, "broken.mp4")[0, 0]
        with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
            clips(tmp_path, "missing.mp4")[0, 0]

    @pytest.mark.slow
    def test_a_broken_video_in_a_worker_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        sampler = EpochSampler(1, batch=1, seed=0, shuffle=False)
        loader = DataLoader(clips(tmp_path, "broken.mp4"), batch_sampler=sampler, num_workers=1)
        with pytest.raises(VideoDecodeError, match=r"broken\.mp4: "):
            next(iter(loader))

    def test_an_index_without_an_epoch_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match=r"is indexed by \(epoch, video\), not 3; use EpochSampler"):
            clips(tmp_path, "a")[3]  # type: ignore[index]

    def test_options_out_of_range_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"clips_per_video \(0\) must be at least 1"):
            clips(tmp_path, "a", clips_per_video=0)
        with pytest.raises(ValueError, match=r"stream \('test'\) must be 'train' or 'val'"):
            clips(tmp_path, "a", stream="test")


def loaded(data: ClipDataset, *, workers: int, epochs: int = 2) -> list[ClipBatch]:
    sampler = EpochSampler(len(data), batch=4, seed=3, shuffle=True)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=workers, collate_fn=ClipBatch.collate)
    batches = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def test_any_number_of_workers_gives_identical_batches(files: Path) -> None:
    data = clips(files, *FILES)
    alone, one, two = (loaded(data, workers=workers) for workers in (0, 1, 2))
    assert [len(batch) for batch in alone] == [4, 2, 4, 2]
    for batch, *others in zip(alone, one, two, strict=True):
        for other in others:
            assert torch.equal(batch.clips, other.clips)
            assert torch.equal(batch.labels, other.labels)
            assert torch.equal(batch.videos, other.videos)
    assert not torch.equal(alone[0].videos, alone[2].videos)


def test_any_number_of_ranks_gives_the_same_clips(files: Path) -> None:
    data = clips(files, *FILES)
    whole = next(iter(EpochSampler(6, batch=4, seed=3, shuffle=True)))
    ranks = [next(iter(EpochSampler(6, batch=2, seed=3, shuffle=True, rank=r, world_size=2))) for r in (0, 1)]
    one = {data[item].video: data[item].clips for item in whole}
    two = {data[item].video: data[item].clips for rank in ranks for item in rank}
    assert one.keys() == two.keys()
    assert all(torch.equal(one[video], two[video]) for video in one)


class TestClipBatch:
    def test_samples_are_stacked(self) -> None:
        samples = [ClipSample(torch.full((2, 3, 4, 5, 5), i, dtype=torch.uint8), 7 - i, i) for i in range(3)]
        batch = ClipBatch.collate(samples)
        assert (batch.clips.shape, batch.clips.dtype) == ((3, 2, 3, 4, 5, 5), torch.uint8)
        assert batch.clips[:, 0, 0, 0, 0, 0].tolist() == [0, 1, 2]
        assert (batch.labels.tolist(), batch.videos.tolist()) == ([7, 6, 5], [0, 1, 2])
        assert (batch.labels.dtype, batch.videos.dtype, len(batch)) == (torch.int64, torch.int64, 3)

    def test_it_moves_and_pins_as_a_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = ClipBatch.collate([ClipSample(torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8), 0, 0)])
        moved = batch.to("meta")
        assert {moved.clips.device.type, moved.labels.device.type, moved.videos.device.type} == {"meta"}
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)  # pinning needs a GPU
        pinned = batch.pin_memory()
        assert (int(pinned.clips.max()), int(pinned.labels), int(pinned.videos)) == (1, 1, 1)


def test_lightning_moves_batches() -> None:
    """Lightning calls `.to` only on what it takes for a batch that can move itself."""
    sample = ClipSample(torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8), 0, 0)
    clips = move_data_to_device(ClipBatch.collate([sample]), torch.device("meta"))
    assert clips.clips.device.type == clips.labels.device.type == "meta"
