"""From files to batches: which pixels an item holds, and that nothing but (seed, epoch, video) decides it."""

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from vidgn.data import dataset, transforms
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipBatch, ClipDataset, ClipSample, VideoViews, ViewBatch, ViewDataset
from vidgn.data.manifest import Manifest
from vidgn.data.sampler import EpochSampler
from vidgn.data.transforms import Box, CropSpec
from vidgn.data.video import VideoDecodeError, open_video

CLIP = ClipSpec(clip_len=4, span=8)  # every second frame
CROP = CropSpec(14)  # short sides 16..20, test side 16


class FakeReader:
    """A video in memory whose frame i is a picture of value i; counts openings and passes."""

    opened = 0
    passes = 0

    def __init__(self, path: str, num_frames: int, height: int, width: int) -> None:
        self.path, self.num_frames, self.height, self.width, self.fps = path, num_frames, height, width, 25.0

    def __len__(self) -> int:
        return self.num_frames

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        FakeReader.passes += 1
        for index in sorted(set(map(int, indices))):
            yield index, np.full((self.height, self.width, 3), index, dtype=np.uint8)

    def __enter__(self) -> "FakeReader":
        FakeReader.opened += 1
        return self

    def __exit__(self, *args: object) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeReader]:
    """Files named FRAMES_HEIGHTxWIDTH."""

    def open_fake(path: str, *, backend: str) -> FakeReader:
        assert backend == "pyav"
        frames, size = Path(path).name.split("_")
        return FakeReader(path, int(frames), *map(int, size.split("x")))

    FakeReader.opened = FakeReader.passes = 0
    monkeypatch.setattr(dataset, "open_video", open_fake)
    return FakeReader


def manifest(root: Path, *names: str) -> Manifest:
    return Manifest.from_rows([(name, i % 3) for i, name in enumerate(names)], root=root, classes=["x", "y", "z"])


def clips(root: Path, *names: str, **options: object) -> ClipDataset:
    given = {"clip": CLIP, "crop": CROP, "seed": 0, "flip": True, "stream": "train", "deadline_seconds": None} | options
    return ClipDataset(manifest(root, *names), **given)  # type: ignore[arg-type]


def views(root: Path, *names: str, **options: object) -> ViewDataset:
    given = {"clip": CLIP, "crop": CROP, "num_clips": 2, "num_crops": 3, "deadline_seconds": None} | options
    return ViewDataset(manifest(root, *names), **given)  # type: ignore[arg-type]


def set_draws(monkeypatch: pytest.MonkeyPatch, *draws: float) -> None:
    monkeypatch.setattr(dataset, "random_draws", lambda seed, **place: np.array(draws))


def write_video(path: Path, *, num_frames: int, height: int, width: int, seed: int) -> None:
    """Write smooth noise that moves, without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, index, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small videos: longer and shorter than the span, wide and upright."""
    root = tmp_path_factory.mktemp("videos")
    for index in range(6):
        height, width = ((24, 32), (32, 24))[index % 2]
        write_video(root / f"{index}.mkv", num_frames=5 + 4 * index, height=height, width=width, seed=index)
    return root


FILES = tuple(f"{index}.mkv" for index in range(6))


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
    views = move_data_to_device(ViewBatch.collate([item(1)]), torch.device("meta"))
    assert clips.clips.device.type == clips.labels.device.type == "meta"
    assert views.items[0].frames.device.type == views.labels.device.type == "meta"


class TestViews:
    def test_each_needed_frame_is_read_once_and_the_index_makes_clips_of_them(
        self, tmp_path: Path, fake: type[FakeReader]
    ) -> None:
        # starts 0, 4, 8, 12, 16 of 20; the last two run past the end and go on at the beginning
        item = views(tmp_path, "20_16x24", num_clips=5)[0]
        values = item.frames[0, :, 0, 0]
        assert values.tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
        assert values[item.index].tolist() == [
            [0, 2, 4, 6], [4, 6, 8, 10], [8, 10, 12, 14], [12, 14, 16, 18], [16, 18, 0, 2],
        ]  # fmt: skip
        assert (item.frames.shape, item.frames.dtype) == ((3, 10, 16, 24), torch.uint8)
        assert (item.label, item.video, item.error) == (0, 0, None)
        assert (fake.opened, fake.passes) == (1, 1)

    @pytest.mark.parametrize(
        ("num_crops", "boxes"),
        [
            (3, (Box(0, 0, 16, 16), Box(0, 4, 16, 16), Box(0, 8, 16, 16))),
            (1, (Box(0, 4, 16, 16),)),
            ("full", (Box(0, 0, 16, 24),)),
        ],
    )
    def test_views_are_the_crops_of_each_clip(
        self, tmp_path: Path, fake: type[FakeReader], num_crops: int | str, boxes: tuple[Box, ...]
    ) -> None:
        item = views(tmp_path, "20_32x48", num_crops=num_crops)[0]
        assert item.boxes == boxes
        found = list(item.views())
        assert [view.shape for view in found] == [(3, 4, box.height, box.width) for box in boxes] * 2
        assert [int(view[0, 0, 0, 0]) for view in found] == [0] * len(boxes) + [10] * len(boxes)  # clip-major

    def test_views_are_what_a_plain_decode_gives(self, files: Path) -> None:
        item = views(files, *FILES, num_clips=2)[5]  # 25 frames of 32 x 24: starts 0 and 12, resized to 21 x 16
        with open_video(files / "5.mkv") as reader:
            decoded = reader.read(np.array([[0, 2, 4, 6], [12, 14, 16, 18]]))
        expected = [
            transforms.resize(clip, size=(21, 16))[:, :, top : top + 16] for clip in decoded for top in (0, 2, 4)
        ]
        assert all(torch.equal(a, b) for a, b in zip(item.views(), expected, strict=True))

    def test_linspace_starts_reach_the_last_frame(self, tmp_path: Path, fake: type[FakeReader]) -> None:
        item = views(tmp_path, "21_16x16", rule="linspace")[0]
        assert item.frames[0, :, 0, 0][item.index[:, 0]].tolist() == [0, 13]

    def test_a_video_that_cannot_be_read_is_an_item_with_its_error(self, tmp_path: Path) -> None:
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        data = views(tmp_path, "broken.mp4", "missing.mp4")
        broken, missing = data[0], data[1]
        assert broken.error is not None
        assert broken.error.startswith(f"{tmp_path}/broken.mp4: ")
        assert missing.error is not None
        assert "No such file" in missing.error
        assert "missing.mp4" in missing.error
        assert (missing.label, missing.video, list(missing.views())) == (1, 1, [])

    @pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENOMEM])
    def test_a_fault_of_the_machine_is_no_fault_of_the_video(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
    ) -> None:
        def fail(path: str, *, backend: str) -> None:
            raise OSError(fault, "machine")

        monkeypatch.setattr(dataset, "open_video", fail)
        with pytest.raises(OSError, match="machine"):
            views(tmp_path, "a")[0]

    def test_wrong_options_fail_before_the_first_video(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"num_crops \(2\) must be 1, 3 or 'full'"):
            views(tmp_path, "a", num_crops=2)
        with pytest.raises(ValueError, match="num_clips"):
            views(tmp_path, "a", num_clips=0)


def item(value: int, *, width: int = 8, video: int = 0, error: str | None = None) -> VideoViews:
    """A video with two clips of two frames and two boxes; or a failed one."""
    if error:
        empty = torch.empty((3, 0, 0, 0), dtype=torch.uint8)
        return VideoViews(empty, torch.empty((0, 2), dtype=torch.int64), (), value, video, error=error)
    frames = torch.full((3, 3, 6, width), value, dtype=torch.uint8)
    boxes = (Box(0, 0, 6, 6), Box(0, width - 6, 6, 6))
    return VideoViews(frames, torch.tensor([[0, 1], [1, 2]]), boxes, value, video)


class TestViewBatch:
    def test_views_of_several_videos_share_a_group(self) -> None:
        batch = ViewBatch.collate([item(1), item(2, video=5, width=9), item(3, error="x: damaged"), item(4)])
        groups = list(batch.views(5))
        assert [clips.shape for clips, _ in groups] == [(5, 3, 2, 6, 6), (5, 3, 2, 6, 6), (2, 3, 2, 6, 6)]
        assert [slot.tolist() for _, slot in groups] == [[0, 0, 0, 0, 1], [1, 1, 1, 3, 3], [3, 3]]
        values = torch.cat([clips[:, 0, 0, 0, 0] for clips, _ in groups]).tolist()
        assert values == [1] * 4 + [2] * 4 + [4] * 4
        assert (batch.labels.tolist(), batch.videos.tolist()) == ([1, 2, 3, 4], [0, 5, 0, 0])
        assert batch.errors == (None, None, "x: damaged", None)
        assert len(batch) == 4

    def test_full_frames_of_different_sizes_are_not_mixed(self, tmp_path: Path, fake: type[FakeReader]) -> None:
        data = views(tmp_path, "9_16x24", "8_16x24", "9_24x16", num_crops="full")
        batch = ViewBatch.collate([data[0], data[1], data[2]])
        groups = [(tuple(clips.shape), slot.tolist()) for clips, slot in batch.views(3)]
        assert groups == [
            ((3, 3, 4, 16, 24), [0, 0, 1]), ((1, 3, 4, 16, 24), [1]), ((2, 3, 4, 24, 16), [2, 2]),
        ]  # fmt: skip

    def test_groups_of_any_size_hold_the_same_views(self) -> None:
        batch = ViewBatch.collate([item(1), item(2)])
        whole = torch.cat([clips for clips, _ in batch.views(100)])
        for chunk in (1, 3, 8):
            assert torch.equal(torch.cat([clips for clips, _ in batch.views(chunk)]), whole)
        with pytest.raises(ValueError, match=r"chunk \(0\) must be at least 1 clip"):
            next(batch.views(0))

    def test_a_batch_of_failed_videos_has_no_views(self) -> None:
        assert list(ViewBatch.collate([item(1, error="a"), item(2, error="b")]).views(4)) == []

    def test_it_moves_and_pins_as_a_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = ViewBatch.collate([item(1), item(2, error="x")])
        moved = batch.to("meta")
        devices = {t.device.type for i in moved.items for t in (i.frames, i.index)}
        assert devices | {moved.labels.device.type, moved.videos.device.type} == {"meta"}
        assert moved.errors == (None, "x")
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)  # pinning needs a GPU
        pinned = batch.pin_memory()
        assert int(pinned.items[0].frames.max()) == 2
        assert pinned.items[0].index.tolist() == [[1, 2], [2, 3]]
        assert (pinned.labels.tolist(), pinned.videos.tolist()) == ([2, 3], [1, 1])

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_loader_delivers_every_video_with_its_error(self, files: Path, workers: int) -> None:
        data = views(files, *FILES, "missing.mkv")
        loader = DataLoader(data, batch_size=3, collate_fn=ViewBatch.collate, num_workers=workers)
        batches = list(loader)
        assert torch.cat([batch.videos for batch in batches]).tolist() == [0, 1, 2, 3, 4, 5, 6]
        assert [error is None for batch in batches for error in batch.errors] == [True] * 6 + [False]
        alone = ViewBatch.collate([data[i] for i in range(3)])
        for (ours, _), (theirs, _) in zip(batches[0].views(100), alone.views(100), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["clips/people_340x256_6fps.mp4", "clips/arm_wrestling_340x256_28fps.mp4"])
def test_real_videos_give_ten_clips_of_three_crops(real_videos: Path, name: str) -> None:
    data = views(real_videos, name, clip=ClipSpec(), crop=CropSpec(56), num_clips=10)
    batch = ViewBatch.collate([data[0]])
    assert batch.errors == (None,)
    assert sum(len(clips) for clips, _ in batch.views(8)) == 30
    assert batch.items[0].frames.shape[1] <= 160
    train = clips(real_videos, name, clip=ClipSpec(), crop=CropSpec(56))
    assert train[0, 0].clips.shape == (1, 3, 32, 56, 56)
