"""Videos in tars: the same frames, each once per epoch over ranks and workers, and going on in the middle."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vidgn.curation.pack import pack, run_pack
from vidgn.data.batches import ClipBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.manifests.shards import read_shards
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests
from vidgn.data.storage.byte_ranges import FileRange
from vidgn.data.transforms import CropSpec
from vidgn.data.video import open_video

from ..conftest import plain_decode, write_video
from ..servers import serving


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "set"
    for split, count in (("train", 5), ("val", 1)):
        for label in ("jump", "run"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                write_video(root / split / label / f"{label}.{number}.mp4", frames=12, first=7 * number)
    return root


@pytest.fixture(scope="module")
def tars(source: Path) -> Path:
    pack(source, source.parent / "tars", megabytes=0.01)
    return source.parent / "tars"


def names(manifest: Manifest) -> list[str]:
    return [manifest.video_id(row) for row in range(len(manifest))]


@pytest.mark.slow
def test_every_video_is_in_one_tar_with_its_label_and_frames(source: Path, tars: Path) -> None:
    packed, plain = read_shards(str(tars), split="train"), Manifest.from_folder(source, split="train")
    assert len(packed.shards) > 2
    assert sorted(names(packed)) == names(plain)
    assert names(packed) != names(plain)  # drawn once
    assert packed.classes == ("jump", "run")
    for row in (0, 4, 9):
        assert packed.classes[packed.label(row)] == packed.video_id(row).split("/")[1]
        with open_video(packed.path(row)) as video:
            frames = [frame.copy() for _, frame in video.frames(range(12))]
        assert all(map(np.array_equal, frames, plain_decode(source / packed.video_id(row))))


def test_the_tars_are_webdataset(tars: Path) -> None:
    with tarfile.open(tars / "val-000000.tar") as tar:
        assert tar.getnames() == [f"00000000{n}.{suffix}" for n in (0, 1) for suffix in ("mp4", "cls", "json")]
        told = json.loads(tar.extractfile("000000001.json").read())  # type: ignore[union-attr]
        assert tar.extractfile("000000001.cls").read() == str(["jump", "run"].index(told["label"])).encode()  # type: ignore[union-attr]


@pytest.mark.slow
def test_packing_again_keeps_what_is_there_and_gives_the_same_bytes(source: Path, tars: Path, tmp_path: Path) -> None:
    times = {tar.name: tar.stat().st_mtime_ns for tar in tars.glob("*.tar")}
    pack(source, tars, megabytes=0.01)
    assert {tar.name: tar.stat().st_mtime_ns for tar in tars.glob("*.tar")} == times
    for tar in pack(source, tmp_path / "new", megabytes=0.01):
        assert tar.read_bytes() == (tars / tar.name).read_bytes()
    assert not list((tmp_path / "new").glob("*part*"))


@pytest.mark.slow
def test_an_index_is_the_headers(tars: Path, tmp_path: Path) -> None:
    for tar in tars.glob("*.tar"):
        (tmp_path / tar.name).write_bytes(tar.read_bytes())
    listed, indexed = read_shards(str(tmp_path), split="train"), read_shards(str(tars), split="train")
    assert names(listed) == names(indexed)
    assert listed.starts.tolist() == indexed.starts.tolist()
    assert listed.labels.tolist() == indexed.labels.tolist()
    assert listed.classes == ("0", "1")  # the tars hold numbers; our index holds the names
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    assert read_shards(str(tmp_path), split="train", classes_file=tmp_path / "classes.txt").classes == ("jump", "run")


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 3])
def test_each_video_comes_once_per_epoch_whatever_the_ranks_and_workers(tars: Path, world_size: int) -> None:
    manifest = read_shards(str(tars), split="train")
    data = ClipDataset(manifest, clip=ClipSpec(2, 4), crop=CropSpec(16), seed=1, flip=False, stream="train")
    orders = []
    for epoch in (0, 1):
        by_rank = []
        for rank in range(world_size):
            sampler = EpochSampler(len(data), batch=1, seed=1, shuffle=True, rank=rank, world_size=world_size)
            sampler.set_epoch(epoch)
            loader = DataLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=rank)
            by_rank.append([int(video) for batch in loader for video in batch.videos])
        assert sorted(video for videos in by_rank for video in videos) == list(range(10))
        orders.append([by_rank[step % world_size][step // world_size] for step in range(10)])
    # a literal: the order of (seed, epoch), the same for one rank and for three
    assert orders == [[int(v) for v in text.split()] for text in ORDERS]


ORDERS = ["8 3 7 9 2 6 5 4 0 1", "5 3 1 2 7 4 8 9 6 0"]


@pytest.mark.slow
def test_an_epoch_goes_on_in_its_middle(tars: Path) -> None:
    manifest = read_shards(str(tars), split="train")
    data = ClipDataset(manifest, clip=ClipSpec(2, 4), crop=CropSpec(16), seed=1, flip=False, stream="train")

    def batches(start: int) -> list[ClipBatch]:
        sampler = EpochSampler(len(data), batch=2, seed=1, shuffle=True)
        sampler.load_state_dict({**sampler.state_dict(), "start": start})
        return list(DataLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate))

    whole, rest = batches(0), batches(6)
    assert len(rest) == 2
    for mine, theirs in zip(rest, whole[3:], strict=True):
        assert torch.equal(mine.clips, theirs.clips)
        assert mine.videos.tolist() == theirs.videos.tolist()


@pytest.mark.slow
def test_tars_are_read_over_http_in_pieces(tars: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving(tars) as server:
        manifest = read_shards(server.url, split="train")
        assert names(manifest) == names(read_shards(str(tars), split="train"))
        server.bytes_sent = 0
        with open_video(manifest.path(3)) as there, open_video(read_shards(str(tars), split="train").path(3)) as here:
            assert np.array_equal(there.read(np.arange(12)), here.read(np.arange(12)))
        assert server.bytes_sent == manifest.sizes[3]
        braces = f"{server.url}/SPLIT-{{000000..000001}}.tar"
        assert len(read_shards(braces, split="train").shards) == 2


@pytest.mark.slow
def test_without_a_test_the_test_is_val_and_rows_can_be_chosen(tars: Path) -> None:
    found = read_manifests(DataSpec("shards", shards=str(tars)))
    assert names(found["test"]) == names(found["val"])
    assert found["test"].notes == (f"{tars} has no tars of test: the test split is val",)
    part = found["train"].select([7, 2]).noted("x")
    assert names(part) == [found["train"].video_id(7), found["train"].video_id(2)]
    assert part.path(0) == found["train"].path(7)
    assert part.missing() == []


@pytest.mark.slow
def test_a_piece_travels_and_names_its_tar(tars: Path) -> None:
    piece = read_shards(str(tars), split="val").path(0)
    again = pickle.loads(pickle.dumps(piece))
    assert isinstance(again, FileRange)
    assert (again, again.start, again.container) == (piece, piece.start, str(tars / "val-000000.tar"))
    with pytest.raises(VideoDecodeError, match=r"val-000000\.tar:val/.*mp4: not a video"):
        open_video(FileRange.of(again.container, start=again.start + 64, size=100, name=again.partition(":")[2]))
    with pytest.raises(OSError, match=r"val-000000\.tar ends before .*has changed since it was indexed"):
        open_video(FileRange.of(again.container, start=10**7, size=100, name="a.mp4"))
    with pytest.raises(ValueError, match="reads whole files of this machine only"):
        open_video(piece, backend="decord")


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.slow
def test_tars_of_others_are_read(source: Path, tmp_path: Path) -> None:
    video = (source / "val/run/run.0.mp4").read_bytes()
    files = {
        "a/1.mp4": video,
        "a/1.json": b'{"label": "run"}',
        "a/2.v.MP4": video,
        "a/2.json": b'{"label": "jump"}',
        "x.txt": b"",
    }
    tar_of(tmp_path / "train-0.tar", files)
    manifest = read_shards(str(tmp_path), split="train")
    assert names(manifest) == ["a/1.mp4", "a/2.v.mp4"]
    assert manifest.classes == ("jump", "run")
    assert manifest.labels.tolist() == [1, 0]
    with open_video(manifest.path(1)) as frames:
        assert len(frames) == 12


@pytest.mark.slow
def test_what_is_wrong_with_tars_is_said(source: Path, tars: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data=shards needs the tars; set data\.shards=DIR"):
        read_manifests(DataSpec("shards"))
    with pytest.raises(FileNotFoundError, match=r"no tar is named .*/train-\*\.tar; give data\.shards=DIR"):
        read_shards(str(tmp_path), split="train")
    tar_of(tmp_path / "train-0.tar", {"a.txt": b"x"})
    with pytest.raises(ValueError, match=r"hold no video; a sample is KEY\.mp4 and KEY\.cls"):
        read_shards(str(tmp_path), split="train")
    tar_of(tmp_path / "train-0.tar", {"a.mp4": b"x"})
    with pytest.raises(ValueError, match=r"train-0\.tar: a has no label; it needs a\.cls"):
        read_shards(str(tmp_path), split="train")
    tar_of(tmp_path / "train-0.tar", {"a.mp4": b"x", "a.cls": b"1", "b.mp4": b"x", "b.cls": b"run"})
    with pytest.raises(ValueError, match=r"some labels are numbers and some are names \(run\)"):
        read_shards(str(tmp_path), split="train")
    (tmp_path / "train-0.tar").write_bytes((tars / "train-000000.tar").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"train-0\.tar is not a whole tar"):
        read_shards(str(tmp_path), split="train")
    with pytest.raises(ValueError, match=r"--shards \(0\) must be a positive number of megabytes"):
        pack(source, tmp_path, megabytes=0)


@pytest.mark.slow
def test_an_index_of_other_tars_is_refused(tars: Path, tmp_path: Path) -> None:
    (tmp_path / "train-index.npz").write_bytes((tars / "train-index.npz").read_bytes())
    (tmp_path / "train-000000.tar").write_bytes((tars / "train-000001.tar").read_bytes() + bytes(512))
    with pytest.raises(ValueError, match=r"train-000000\.tar is not the tar that .*train-index\.npz lists"):
        read_shards(str(tmp_path), split="train")
    (tmp_path / "train-999999.tar").touch()
    with pytest.raises(ValueError, match=r"train-index\.npz does not list train-999999\.tar; remove it"):
        read_shards(str(tmp_path), split="train")
    (tmp_path / "train-index.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"train-index\.npz is damaged"):
        read_shards(str(tmp_path), split="train")


@pytest.mark.slow
def test_class_names_must_fit(tars: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("jump\nwalk\n")
    with pytest.raises(ValueError, match=r"data\.classes names other classes than the tars"):
        read_shards(str(tars), split="train", classes_file=tmp_path / "classes.txt")
    tar_of(tmp_path / "train-0.tar", {"a.mp4": b"x", "a.cls": b"2"})
    with pytest.raises(ValueError, match=r"labels up to 2, but there are 2 class names; give data\.classes"):
        read_shards(str(tmp_path), split="train", classes_file=tmp_path / "classes.txt")


@pytest.mark.slow
def test_the_command_says_how_to_train_on_them(source: Path) -> None:
    out = io.StringIO()
    run_pack(str(source), megabytes=1000, out=out)
    assert out.getvalue().startswith("2 tars, ")
    assert f"train.py data=shards data.shards={source.parent}/set_shards" in out.getvalue()
