"""Files that are whole or not there: what is left after every kind of interruption."""

import errno
import os
import resource
import zipfile

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_state
from vidgn.files.whole_files import (
    check_whole,
    check_writable,
    clean_leftovers,
    copy_whole,
    newest_whole,
    rotate,
    write_whole,
)


def write(path, value):
    write_whole(path, lambda file: torch.save({"value": torch.full((1000,), float(value))}, file))


def value(path):
    return float(read_state(path)["value"][0])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_sum(tmp_path):
    write(tmp_path / "last.ckpt", 1)
    write(tmp_path / "last.ckpt", 2)
    assert value(tmp_path / "last.ckpt") == 2
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.sha256"]
    assert (tmp_path / "last.ckpt.sha256").read_text().split()[1:] == ["last.ckpt"]


@pytest.mark.parametrize("dies_at", range(1, 4))
def test_a_writer_that_dies_at_any_rename_leaves_a_whole_file(tmp_path, monkeypatch, dies_at):
    """The renames are: the sum, the file, the sum again. BaseException: nothing may tidy up, as after SIGKILL."""
    write(tmp_path / "last.ckpt", 1)
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == dies_at:
            raise KeyboardInterrupt("in a rename")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt, match="in a rename"):
            write(tmp_path / "last.ckpt", 2)
    assert value(tmp_path / "last.ckpt") == (1 if dies_at < 3 else 2)
    assert len(clean_leftovers(tmp_path)) >= 1
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.sha256"]
    write(tmp_path / "last.ckpt", 3)
    assert value(tmp_path / "last.ckpt") == 3


def test_a_full_disk_is_a_sentence_and_keeps_the_file_before(tmp_path):
    write(tmp_path / "last.ckpt", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the file system says "File too large"
    try:
        with pytest.raises(OSError, match=r"last.ckpt could not be written \(File too large\); the file of that name"):
            write(tmp_path / "last.ckpt", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert value(tmp_path / "last.ckpt") == 1
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.sha256"]
    write(tmp_path / "last.ckpt", 2)  # space again
    assert value(tmp_path / "last.ckpt") == 2


def test_a_fault_of_the_program_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(AttributeError, match="Can't"):
        write_whole(tmp_path / "a.ckpt", lambda file: torch.save(lambda: None, file))
    assert names(tmp_path) == []


def test_the_last_ones_are_kept(tmp_path):
    for number in range(5):
        rotate(tmp_path, keep=3)
        write(tmp_path / "last.ckpt", number)
    assert [value(tmp_path / name) for name in ("last.ckpt", "last.1.ckpt", "last.2.ckpt")] == [4, 3, 2]
    assert len(names(tmp_path)) == 6


def test_a_second_name_twice_leaves_no_part(tmp_path):
    """Renaming one hard link over another of the same file does nothing, and leaves both."""
    write(tmp_path / "best.ckpt", 1)
    for _ in range(2):
        copy_whole(tmp_path / "best.ckpt", tmp_path / "last.ckpt")
    assert names(tmp_path) == ["best.ckpt", "best.ckpt.sha256", "last.ckpt", "last.ckpt.sha256"]


def test_without_hard_links_a_second_name_is_a_copy(tmp_path, monkeypatch):
    def no_link(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    write(tmp_path / "best.ckpt", 1)
    copy_whole(tmp_path / "best.ckpt", tmp_path / "last.ckpt")
    assert value(tmp_path / "last.ckpt") == 1


def spoil(path, how):
    data = bytearray(path.read_bytes())
    if how == "empty":
        data = bytearray()
    elif how == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1 << 3
    path.unlink()  # another inode: last.1.ckpt may be a link to this one
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "cut", "one bit"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, how):
    write(tmp_path / "last.ckpt", 1)
    rotate(tmp_path, keep=2)
    write(tmp_path / "last.ckpt", 2)
    spoil(tmp_path / "last.ckpt", how)
    found, wrong = newest_whole(tmp_path)
    assert found == tmp_path / "last.1.ckpt"
    assert len(wrong) == 1
    assert "last.ckpt" in wrong[0]
    assert value(found) == 1


@pytest.mark.parametrize("with_sum", [True, False])
def test_every_flipped_bit_is_found(tmp_path, with_sum):
    path = tmp_path / "last.ckpt"
    write(path, 1)
    if not with_sum:  # a file from elsewhere: the sums of the zip's parts
        (tmp_path / "last.ckpt.sha256").unlink()
    whole = path.read_bytes()
    body = whole.index(b"\x00\x00\x80\x3f" * 8)  # the tensor's ones
    for place in range(body, body + 4000, 97):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is damaged"):
            check_whole(path)


def test_no_checkpoint_is_none(tmp_path):
    assert newest_whole(tmp_path) == (None, [])
    assert newest_whole(tmp_path / "none") == (None, [])


def test_a_compressed_checkpoint_is_refused_before_it_fills_the_memory(tmp_path):
    write(tmp_path / "a.ckpt", 0)
    with zipfile.ZipFile(tmp_path / "a.ckpt") as plain, zipfile.ZipFile(
        tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED
    ) as packed:  # fmt: skip
        for name in plain.namelist():
            packed.writestr(name, plain.read(name) * (1000 if "data/0" in name else 1))
    assert (tmp_path / "bomb.ckpt").stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"has compressed parts \(.*\), which checkpoints never have"):
        read_state(tmp_path / "bomb.ckpt")


def test_a_zip_with_a_spoilt_directory_is_damaged(tmp_path):
    write(tmp_path / "a.ckpt", 1)
    (tmp_path / "a.ckpt.sha256").unlink()
    data = bytearray((tmp_path / "a.ckpt").read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place : place + 4] = b"XXXX"
    (tmp_path / "a.ckpt").write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        check_whole(tmp_path / "a.ckpt")


def test_a_folder_that_cannot_be_written_is_found_at_the_start(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"file/checkpoints cannot be written \(Not a directory\), so no checkpoint"):
        check_writable(tmp_path / "file" / "checkpoints")
    check_writable(tmp_path / "new" / "checkpoints")
    assert names(tmp_path / "new" / "checkpoints") == []
