import numpy as np
import pytest
import torch
from PIL import Image

from vidgn.data.clips import ClipSpec
from vidgn.data.faults.quarantine import Quarantine, TooManyBadVideos
from vidgn.data.images.dataset import CentreDataset, PictureDataset, PictureDecodeError, read_picture
from vidgn.data.images.module import PictureDataModule, data_module, image_protocol
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import VideoDataModule
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.spec import DataSpec, ViewSpec
from vidgn.data.splits import read_manifests
from vidgn.data.transforms import CropSpec


@pytest.fixture
def folder(tmp_path):
    """Two classes with three pictures each, of several sizes, for training and for validation."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 256, (40 + number, 50 - number, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{number}.png")
    return tmp_path


def manifest(folder, split="train"):
    return read_manifests(DataSpec("images", root=str(folder)))[split]


def test_a_picture_of_any_kind_is_rgb(tmp_path):
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "rgb.png")
    Image.fromarray(pixels).save(tmp_path / "misnamed.JPEG", format="PNG")
    Image.fromarray(np.dstack([pixels, np.zeros((2, 2), np.uint8)])).save(tmp_path / "transparent.png")
    Image.fromarray(pixels).quantize(4).save(tmp_path / "palette.png")
    for name in ("rgb.png", "misnamed.JPEG", "transparent.png", "palette.png"):
        np.testing.assert_array_equal(read_picture(str(tmp_path / name)), pixels, err_msg=name)
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_picture(str(tmp_path / "grey.png")), pixels[:, :, :1].repeat(3, 2))
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    np.testing.assert_allclose(read_picture(str(tmp_path / "cmyk.jpg"))[4, 4], (255, 0, 0), atol=3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"<html>", "no whole picture"), (b"\x89PNG\r\n\x1a\n" + bytes(50), "no whole picture")],
)
def test_a_bad_picture_is_named(content, reason, tmp_path):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(PictureDecodeError, match=rf"bad\.png: {reason}"):
        read_picture(str(tmp_path / "bad.png"))
    assert issubclass(PictureDecodeError, VideoDecodeError)  # what the quarantine takes


def test_a_cut_off_and_a_huge_picture_are_named(folder, monkeypatch):
    path = folder / "train" / "cat" / "0.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureDecodeError, match=r"cat/0\.png: no whole picture \(.*truncated"):
        read_picture(str(path))
    path.write_bytes(whole)
    monkeypatch.setattr("vidgn.data.images.dataset.MAX_PIXELS", 1000)
    with pytest.raises(PictureDecodeError, match=r"cat/0\.png: 50x40 pixels are more than 1,000; make it smaller"):
        read_picture(str(path))
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_picture(str(folder / "none.png"))


def test_a_training_picture_is_a_function_of_seed_epoch_and_picture(folder):
    def clips(seed, epoch, index):
        data = PictureDataset(manifest(folder), crop=CropSpec(32), seed=seed, flip=True, stream="train")
        return data[epoch, index]

    sample = clips(1, 2, 3)
    assert (sample.clips.shape, sample.clips.dtype) == ((1, 3, 1, 32, 32), torch.uint8)
    assert (sample.label, sample.video) == (1, 3)
    assert torch.equal(sample.clips, clips(1, 2, 3).clips)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(sample.clips, clips(*other).clips)


def test_validation_and_test_see_the_centre(folder):
    data = PictureDataset(manifest(folder, "val"), crop=CropSpec(32), seed=0, flip=True, stream="val")
    first = data[0, 4].clips
    assert torch.equal(first, data[9, 4].clips)
    item = CentreDataset(manifest(folder, "test"), crop=CropSpec(32))[4]
    (view,) = item.views()
    assert torch.equal(view, first[0])
    assert (item.label, item.video, item.num_views, item.error) == (1, 4, 1, None)


@pytest.mark.slow
def test_without_a_quarantine_a_bad_picture_stops_training_and_is_a_failed_one_in_the_test(folder):
    (folder / "train" / "cat" / "1.png").write_bytes(b"")
    (folder / "val" / "cat" / "1.png").write_bytes(b"")
    data = PictureDataset(manifest(folder), crop=CropSpec(32), seed=0, flip=True, stream="train")
    with pytest.raises(VideoDecodeError, match=r"train/cat/1\.png: empty file"):
        data[0, 1]
    item = CentreDataset(manifest(folder, "test"), crop=CropSpec(32))[1]
    assert item.error.endswith("val/cat/1.png: empty file")
    assert list(item.views()) == []
    with pytest.raises(VideoDecodeError, match=r"val/cat/1\.png: empty file"):
        CentreDataset(manifest(folder, "test"), crop=CropSpec(32), strict=True)[1]


def test_a_bad_training_picture_is_replaced_by_one_drawn_for_it_and_written_down(folder, tmp_path):
    (folder / "train" / "cat" / "1.png").write_bytes(b"")

    def data(name, **changes):
        ledger = Quarantine(tmp_path / name, num_videos=6, **{"max_share": 0.2, **changes})
        return PictureDataset(manifest(folder), crop=CropSpec(32), seed=0, flip=True, stream="train", quarantine=ledger)

    one, other = data("one"), data("other")
    one[0, 2], one[0, 0]  # what was read before changes nothing
    stands_in = [one[epoch, 1] for epoch in range(4)]
    assert {sample.video for sample in stands_in} <= {0, 2, 3, 4, 5}
    assert len({sample.video for sample in stands_in}) > 1
    for epoch, sample in enumerate(stands_in):
        again = other[epoch, 1]
        assert (again.video, again.label) == (sample.video, sample.label)
        assert torch.equal(again.clips, sample.clips)
        assert torch.equal(again.clips, one[epoch, sample.video].clips)  # it is that picture's own view
    (row,) = one.quarantine.rows()
    assert (row.video, row.error, row.split, row.row, row.epoch) == ("train/cat/1.png", "empty file", "train", 1, 0)
    with pytest.raises(TooManyBadVideos, match=r"1 of 6 training videos cannot be read, more than data\.max_share"):
        data("third", max_share=0.1)[0, 1]


def test_a_bad_validation_picture_is_failed_and_counted_as_wrong(folder, tmp_path):
    (folder / "val" / "dog" / "0.png").write_bytes(b"<html>")
    ledger = Quarantine(tmp_path / "ledger", num_videos=6)
    data = PictureDataset(
        manifest(folder, "val"), crop=CropSpec(32), seed=0, flip=True, stream="val", quarantine=ledger
    )
    sample = data[0, 3]
    assert (sample.failed, sample.label, sample.video) == (True, 1, 3)
    assert (sample.clips.shape, int(sample.clips.max())) == ((1, 3, 1, 32, 32), 0)
    assert [row.video for row in ledger.rows()] == ["val/dog/0.png"]


def test_a_training_view_shows_no_less_than_it_may(folder):
    """A picture whose halves differ: a view of all but a little of it has both."""
    halves = np.zeros((40, 40, 3), np.uint8)
    halves[:, 20:] = 200
    Image.fromarray(halves).save(folder / "train" / "cat" / "x.png")
    row = [manifest(folder).video_id(row) for row in range(7)].index("train/cat/x.png")

    def both(min_area):
        data = PictureDataset(
            manifest(folder), crop=CropSpec(32), seed=0, flip=True, stream="train", min_area=min_area,
            deadline_seconds=None,
        )  # fmt: skip
        views = [data[epoch, row].clips.float() for epoch in range(30)]
        return sum(float(view.max() - view.min()) > 40 for view in views)

    assert both(0.9) == 30
    assert both(0.08) < 30
    with pytest.raises(ValueError, match=r"data\.min_area \(0\) must be in \(0, 1\]; ImageNet's is 0\.08"):
        both(0)


def test_a_stream_is_train_or_val(folder):
    with pytest.raises(ValueError, match=r"stream \('test'\) must be 'train' or 'val'"):
        PictureDataset(manifest(folder), crop=CropSpec(32), seed=0, flip=True, stream="test")


def module(folder, **changes):
    words = {"clip": ClipSpec(1, 1), "crop": CropSpec(32), "test": ViewSpec(1, 1), "batch": 2, "test_batch": 2}
    spec = DataSpec("images", root=str(folder), num_workers=0)
    return PictureDataModule(read_manifests(spec), spec=spec, **{**words, **changes})


def test_loaders_give_clips_of_one_frame(folder):
    data = module(folder)
    batches = list(data.train_dataloader())
    assert [tuple(batch.clips.shape) for batch in batches] == [(2, 1, 3, 1, 32, 32)] * 3
    assert sorted(video for batch in batches for video in batch.videos.tolist()) == list(range(6))
    assert [batch.videos.tolist() for batch in data.val_dataloader()] == [[0, 1], [2, 3], [4, 5]]
    assert [batch.videos.tolist() for batch in data.test_dataloader()] == [[0, 1], [2, 3], [4, 5]]
    assert image_protocol(data) == "pictures: 1 centre crop of 32, short side 37, softmax averaged over positions"


def test_pictures_have_one_frame_and_one_view(folder):
    with pytest.raises(ValueError, match=r"clip_len \(8\) and span \(8\) must be 1 for the pictures of data=images"):
        module(folder, clip=ClipSpec(8, 8))
    with pytest.raises(ValueError, match=r"num_clips \(10\) and num_crops \(3\) must be 1 for pictures"):
        module(folder, test=ViewSpec(10, 3))
    with pytest.raises(ValueError, match=r"val_clips \(2\) must be 1 for pictures; leave it out"):
        module(folder, val_clips=2)


def test_the_data_set_decides_the_loaders():
    assert data_module("exposures") is data_module("images") is PictureDataModule
    assert data_module("motions") is data_module("folder") is VideoDataModule


def test_folders_of_pictures_are_read_in_order(folder):
    found = read_manifests(DataSpec("images", root=str(folder)))
    assert found["train"].classes == ("cat", "dog")
    assert [found["train"].video_id(row) for row in range(6)] == [
        f"train/{label}/{number}.png" for label in ("cat", "dog") for number in range(3)
    ]
    assert found["test"].video_id(0) == "val/cat/0.png"  # there is no test/
    (folder / "val" / "cat").rename(folder / "val" / "cat.old")
    with pytest.raises(ValueError, match=r"val has classes that .*train has not: cat\.old; rename or remove"):
        read_manifests(DataSpec("images", root=str(folder)))


def test_a_class_that_validation_lacks_keeps_the_numbers_of_the_others(folder):
    for path in (folder / "val" / "cat").iterdir():
        path.unlink()
    (folder / "val" / "cat").rmdir()
    (folder / "test" / "dog").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(folder / "test" / "dog" / "x.PNG")
    found = read_manifests(DataSpec("images", root=str(folder)))
    assert found["val"].labels.tolist() == [1, 1, 1]
    assert (len(found["test"]), found["test"].video_id(0)) == (1, "test/dog/x.PNG")


def test_folders_that_are_none_of_pictures_say_so(folder, tmp_path):
    with pytest.raises(ValueError, match=r"has no train/ and no val/; pictures lie in train/CLASS/"):
        read_manifests(DataSpec("images", root=str(tmp_path / "train")))
    with pytest.raises(ValueError, match=r"data=images needs the folder of the pictures; set data\.root=DIR"):
        read_manifests(DataSpec("images"))
    for path in (folder / "train" / "dog").iterdir():
        path.rename(path.with_suffix(".mp4"))
    with pytest.raises(ValueError, match=r"train/dog holds no picture \(found 3 x \.mp4\); allowed are \.jpg"):
        read_manifests(DataSpec("images", root=str(folder)))
    (folder / "train" / "dog").rename(folder / "dog")
    with pytest.raises(ValueError, match=r"train has 1 class folders; a classifier needs at least two"):
        read_manifests(DataSpec("images", root=str(folder)))


def test_a_manifest_of_pictures_is_one_of_videos(folder):
    assert isinstance(manifest(folder), Manifest)
    assert manifest(folder).missing() == []
