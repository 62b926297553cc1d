"""Tars and indexes of strangers: offsets and counts are those of the files, and a small file stays small in memory."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest

from vidgn.data.manifests.shards import read_shards


def tar_of(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path):
    """One tar of two samples of one class, whose bytes are at 512 and 2048."""
    tar_of(tmp_path / "train-0.tar", {"a.mp4": b"x" * 100, "a.cls": b"run", "b.mp4": b"y" * 100, "b.cls": b"run"})
    return tmp_path


def arrays(folder, **changes):
    size = (folder / "train-0.tar").stat().st_size
    words = {"names": ["a.mp4", "b.mp4"], "shards": ["train-0.tar"], "classes": ["run"]}
    words |= changes.pop("words", {})
    encoded = np.frombuffer(json.dumps(words).encode(), np.uint8)
    whole = {
        "words": encoded, "labels": [0, 0], "shard": [0, 0], "starts": [512, 2048], "sizes": [100, 100],
        "shard_sizes": [size],
    }  # fmt: skip
    return {key: np.asarray(value) for key, value in {**whole, **changes}.items() if value is not None}


def read(folder):
    return read_shards(str(folder), split="train")


def test_a_whole_index_is_read(folder):
    np.savez_compressed(folder / "train-index.npz", **arrays(folder))
    found = read(folder)
    assert (found.starts.tolist(), found.sizes.tolist(), found.classes) == ([512, 2048], [100, 100], ("run",))


INDEXES = [
    ({"starts": [512, 10**12]}, "videos beyond the end of their tar"),
    ({"starts": [-1, 512]}, "videos beyond the end"),
    ({"sizes": [100, 2**62]}, "videos beyond the end"),
    ({"sizes": [0, 100]}, "videos beyond the end"),
    ({"shard": [0, 5]}, "in tars that it does not name"),
    ({"shard": [0, -1]}, "in tars that it does not name"),
    ({"labels": [0, 9]}, "labels without a class"),
    ({"labels": [0, -1]}, "labels without a class"),
    ({"labels": [0, 10**12], "words": {"classes": []}}, "labels without a class"),
    ({"labels": [0.0, 1.0]}, "labels is not a vector of whole numbers"),
    ({"labels": [[0, 0]]}, "labels is not a vector of whole numbers"),
    ({"labels": [0]}, "it names 2 videos in 1 tars"),
    ({"shard_sizes": np.zeros(0, int)}, "it names 2 videos in 1 tars"),
    ({"starts": None}, "starts.npy"),
    ({"words": {"names": [1, 2]}}, "names is not a list of names"),
    ({"words": {"names": "ab"}}, "names is not a list of names"),
    ({"words": {"classes": {"run": 0}}}, "classes is not a list of names"),
]


@pytest.mark.parametrize(("changes", "message"), INDEXES)
def test_an_index_that_does_not_fit_is_one_sentence(folder, changes, message):
    np.savez_compressed(folder / "train-index.npz", **arrays(folder, **changes))
    with pytest.raises(ValueError, match=rf"train-index\.npz is damaged \(.*{message}.*remove it") as caught:
        read(folder)
    assert len(str(caught.value)) < 500


def with_header(shape):
    """An array's file whose header promises more than there is."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_header((10**15,)), "labels is not a vector"),  # 8 PB
        (b"\x93NUMPY", "is damaged"),
        (b"", "is damaged"),
        (bytes(200_000_000), r"bytes become 200,\d{3},\d{3}"),  # zeros, packed a thousand times smaller
    ],
    ids=["promise", "cut", "empty", "bomb"],
)
def test_an_index_is_no_bomb(folder, content, message):
    np.savez(folder / "whole.npz", **arrays(folder))
    with (
        zipfile.ZipFile(folder / "whole.npz") as whole,
        zipfile.ZipFile(folder / "train-index.npz", "w", zipfile.ZIP_DEFLATED) as bad,
    ):
        for name in whole.namelist():
            bad.writestr(name, content if name == "labels.npy" else whole.read(name))
    with pytest.raises(ValueError, match=rf"train-index\.npz is damaged \(.*{message}|is damaged"):
        read(folder)


TARS = [
    ({"a.mp4": b"x", "a.cls": b"\xff\xfe"}, "is not UTF-8 text"),
    ({"a.mp4": b"x", "a.cls": b"9" * 5000}, "is neither a name nor a number|is more than"),
    ({"a.mp4": b"x", "a.cls": b"1000000000"}, "the label of a is more than 1,000,000"),
    ({"a.mp4": b"x", "a.cls": b"  "}, "is neither a name nor a number"),
    ({"a.mp4": b"x", "a.cls": bytes(1_000_001)}, "has 1,000,001 bytes; a label or record has fewer"),
    ({"a.mp4": b"x", "a.json": b"{"}, "is not JSON"),
    ({"a.mp4": b"x", "a.json": b"[1]"}, "is not a JSON object"),
    ({"a.mp4": b"x", "a.json": b"[" * 100_000}, "is not JSON"),
    ({"a.mp4": b"x", "a.json": b'{"label": [1]}'}, "is neither a name nor a number"),
    ({"a.mp4": b"x", "a.json": b'{"label": true}'}, "is neither a name nor a number"),
    ({"a.mp4": b"x", "a.json": b'{"label": -1}'}, "is neither a name nor a number"),
    ({"a.mp4": b"x", "a.json": b'{"label": 1e400}'}, "is neither a name nor a number"),
    ({"a.mp4": b"x", "a.json": b'{"label": "run", "name": "\\ud800.mp4"}'}, "is too long or not UTF-8 text"),
    ({"a.mp4": b"x", "a.json": json.dumps({"label": "run", "name": "n" * 5000}).encode()}, "is too long"),
    ({"\udcff.mp4": b"x", "\udcff.cls": b"run"}, "is too long or not UTF-8 text"),
]


@pytest.mark.parametrize(("files", "message"), TARS, ids=range(len(TARS)))
def test_a_tar_with_a_mistake_is_one_sentence(tmp_path, files, message):
    tar_of(tmp_path / "train-0.tar", files)
    with pytest.raises(ValueError, match=rf"train-0\.tar.*({message})") as caught:
        read(tmp_path)
    assert len(str(caught.value)) < 500


def test_a_member_that_ends_beyond_the_tar_is_said(folder):
    path = folder / "train-0.tar"
    member = tarfile.TarInfo("z.mp4")
    member.size = 10**12
    path.write_bytes(path.read_bytes()[:4096] + member.tobuf() + bytes(1024))
    with pytest.raises(ValueError, match=r"train-0\.tar is not a whole tar"):
        read(folder)


@pytest.mark.parametrize("content", [b"", b"x" * 512, bytes(511) + b"\xff", b"\x80" * 1024])
def test_what_is_no_tar_is_said(tmp_path, content):
    (tmp_path / "train-0.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not a whole tar|hold no video"):
        read(tmp_path)
