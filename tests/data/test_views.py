"""The views of whole videos: which pixels they are, and that they come in pieces of bounded size."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from vidgn.data import transforms
from vidgn.data import views as views_module
from vidgn.data.batches import VideoViews, ViewBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.transforms import Box, CropSpec
from vidgn.data.video import open_video
from vidgn.data.views import ViewDataset, piece_bounds

from .small_videos import CLIP, CROP, FILES, FakeReader, manifest


def views(root: Path, *names: str, **options: object) -> ViewDataset:
    given = {"clip": CLIP, "crop": CROP, "num_clips": 2, "num_crops": 3, "deadline_seconds": None} | options
    return ViewDataset(manifest(root, *names), **given)  # type: ignore[arg-type]


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

        monkeypatch.setattr(views_module, "open_video", fail)
        with pytest.raises(OSError, match="machine"):
            views(tmp_path, "a")[0]

    def test_wrong_options_fail_before_the_first_video(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"num_crops \(2\) must be 1, 3 or 'full'"):
            views(tmp_path, "a", num_crops=2)
        with pytest.raises(ValueError, match="num_clips"):
            views(tmp_path, "a", num_clips=0)


def item(value: int, *, error: str | None = None) -> VideoViews:
    """A video with two clips of two frames and two boxes; or a failed one."""
    counts = {"first_view": 0, "num_views": 4, "total_views": 4}
    if error:
        empty = torch.empty((3, 0, 0, 0), dtype=torch.uint8)
        return VideoViews(empty, torch.empty((0, 2), dtype=torch.int64), (), value, 0, **counts, error=error)
    frames = torch.full((3, 3, 6, 8), value, dtype=torch.uint8)
    return VideoViews(
        frames, torch.tensor([[0, 1], [1, 2]]), (Box(0, 0, 6, 6), Box(0, 2, 6, 6)), value, value, **counts
    )


def test_a_clip_is_cut_without_a_copy_of_all_frames() -> None:
    frames = torch.arange(240 * 4 * 6 * 3).to(torch.uint8).view(240, 4, 6, 3)
    counts = {"first_view": 0, "num_views": 3, "total_views": 3}
    boxes = (Box(0, 0, 4, 4), Box(0, 1, 4, 4), Box(0, 2, 4, 4))
    item = VideoViews(frames.permute(3, 0, 1, 2), torch.tensor([[0, 7, 239]]), boxes, 0, 0, **counts)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        found = list(item.views())
    assert sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages()) < frames.nbytes / 10
    for left, view in enumerate(found):
        assert torch.equal(view, frames[[0, 7, 239], :, left : left + 4].permute(3, 0, 1, 2))


class TestViewBatch:
    def test_lightning_moves_it(self) -> None:
        """Lightning calls `.to` only on what it takes for a batch that can move itself."""
        moved = move_data_to_device(ViewBatch.collate([item(1)]), torch.device("meta"))
        assert moved.items[0].frames.device.type == moved.items[0].index.device.type == "meta"

    def test_it_moves_and_pins_as_a_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = ViewBatch.collate([item(1), item(2, error="x")])
        assert (len(batch), batch.videos.tolist()) == (2, [1, 0])
        moved = batch.to("meta")
        assert {t.device.type for i in moved.items for t in (i.frames, i.index)} == {"meta"}
        assert moved.errors == (None, "x")
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)  # pinning needs a GPU
        pinned = batch.pin_memory()
        assert int(pinned.items[0].frames.max()) == 2
        assert pinned.items[0].index.tolist() == [[1, 2], [2, 3]]
        assert pinned.videos.tolist() == [1, 0]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_loader_delivers_every_video_with_its_error(self, files: Path, workers: int) -> None:
        data = views(files, *FILES, "missing.mkv")
        loader = DataLoader(data, batch_size=3, collate_fn=ViewBatch.collate, num_workers=workers)
        batches = list(loader)
        assert torch.cat([batch.videos for batch in batches]).tolist() == [0, 1, 2, 3, 4, 5, 6]
        assert [item.error is None for batch in batches for item in batch.items] == [True] * 6 + [False]
        for index, item in enumerate(batches[0].items):
            for ours, theirs in zip(item.views(), data[index].views(), strict=True):
                assert torch.equal(ours, theirs)


class TestPieces:
    @pytest.fixture(autouse=True)
    def few_frames(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(views_module, "PIECE_FRAMES", 9)  # two clips of four

    @pytest.mark.parametrize("num_clips", [1, 2, 3, 5, 8])
    def test_pieces_together_are_the_views_of_the_whole(
        self, tmp_path: Path, fake: type[FakeReader], monkeypatch: pytest.MonkeyPatch, num_clips: int
    ) -> None:
        data = views(tmp_path, "9_16x16", "40_16x24", num_clips=num_clips)
        assert (data.num_pieces, len(data)) == (-(-num_clips // 2), 2 * data.num_pieces)
        pieces = [data[index] for index in range(data.num_pieces, len(data))]
        monkeypatch.setattr(views_module, "PIECE_FRAMES", 1000)
        whole = views(tmp_path, "9_16x16", "40_16x24", num_clips=num_clips)[1]
        found = [view for piece in pieces for view in piece.views()]
        assert len(found) == 3 * num_clips
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, whole.views(), strict=True))
        assert {(piece.video, piece.label, piece.total_views) for piece in pieces} == {(1, 1, 3 * num_clips)}
        ends = [piece.first_view + piece.num_views for piece in pieces]
        assert [piece.first_view for piece in pieces] == [0, *ends[:-1]]
        assert ends[-1] == 3 * num_clips

    def test_a_piece_holds_few_frames_of_a_long_video_with_many_views(
        self, tmp_path: Path, fake: type[FakeReader]
    ) -> None:
        data = views(tmp_path, "100000_16x16", num_clips=50)
        assert max(data[index].frames.shape[1] for index in range(len(data))) == 8

    def test_a_piece_that_cannot_be_read_says_which_views_it_stands_for(self, tmp_path: Path) -> None:
        data = views(tmp_path, "missing.mp4", num_clips=5)
        facts = [(piece.first_view, piece.num_views, piece.total_views, bool(piece.error)) for piece in data]
        assert facts == [(0, 3, 15, True), (3, 6, 15, True), (9, 6, 15, True)]

    def test_views_hold_whole_pieces(self, tmp_path: Path) -> None:
        data = views(tmp_path, "a", num_clips=5)  # pieces of 3, 6 and 6 views
        assert [data.pieces_within(count) for count in (0, 2, 3, 8, 9, 14, 15)] == [0, 0, 1, 1, 2, 2, 3]

    def test_a_clip_longer_than_a_piece_is_a_piece(self) -> None:
        assert piece_bounds(3, clip_len=64) == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clips/people_340x256_6fps.mp4", "clips/arm_wrestling_340x256_28fps.mp4"])
def test_real_videos_give_ten_clips_of_three_crops(real_videos: Path, name: str) -> None:
    data = views(real_videos, name, clip=ClipSpec(), crop=CropSpec(56), num_clips=10)
    (item,) = data
    assert item.error is None
    assert sum(1 for _ in item.views()) == 30
    assert item.frames.shape[1] <= 160


LONG = {"clip": ClipSpec(clip_len=64, span=64), "num_clips": 10, "num_crops": 1}


def test_frames_four_times_as_wide_as_high_are_read_in_one_piece(tmp_path: Path, fake: type[FakeReader]) -> None:
    item = views(tmp_path, "640_16x64", **LONG)[0]
    assert (item.frames.shape, item.error) == ((3, 640, 16, 64), None)


@pytest.mark.parametrize(("name", "size"), [("640_16x72", "72x16 px"), ("640_72x16", "16x72 px")])
def test_a_panorama_that_would_fill_the_memory_fails_alone(
    name: str, size: str, tmp_path: Path, fake: type[FakeReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved: list[tuple[int, ...]] = []
    monkeypatch.setattr(views_module._frames, "empty", lambda shape: reserved.append(shape))
    item = views(tmp_path, name, **LONG)[0]
    assert item.error is not None
    assert f"scaled to a short side of 16 px, are {size}: 640 frames take 0.0 GB, more than" in item.error
    assert reserved == []


def test_a_panorama_ends_a_strict_test(tmp_path: Path, fake: type[FakeReader]) -> None:
    with pytest.raises(VideoDecodeError, match=r"640 frames take 0\.0 GB, .* score fewer clips"):
        views(tmp_path, "640_16x72", **LONG, strict=True)[0]
