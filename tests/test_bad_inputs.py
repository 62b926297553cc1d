"""Wrong words, files and folders: each is one sentence that names what was given."""

import re
import zipfile

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.clips import ClipSpec
from vidgn.data.loading.sampler import EpochSampler, ShardSampler
from vidgn.data.manifests.classes import read_classes
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.passports.passport import read_passport
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video
from vidgn.optim import OptimSpec
from vidgn.runs.command_line import check_words

WORDS = [
    ("clp_len=64", "unknown option 'clp_len'; did you mean 'clip_len'"),
    ("bach=4", "did you mean 'batch'"),
    ("nrm=gn", "unknown option 'nrm'; did you mean 'norm'"),
    ("norm=[1,2]", "'norm=[1,2]' is unknown; norm takes one value"),
    ("norm=gnn", "'norm=gnn' is unknown; it must be one of"),
    ("norm=BN", "is unknown"),
    ("model=resnet", "'model=resnet' is unknown"),
    ("data=ucf", "'data=ucf' is unknown"),
    ("optim=adam", "'optim=adam' is unknown"),
    ("preset=gn", "'preset=gn' is unknown"),
    ("trainer=fast", "'trainer=fast' is unknown"),
    ("logger=tb", "'logger=tb' is unknown"),
    ("norm.groups=4", "norm has"),
    ("optim.learning_rate=1", "optim has"),
    ("trainer.max_step=2", "did you mean 'max_steps'"),
    ("data.workers=2", "data has"),
    ("model.widht=50", "did you mean 'width'"),
    ("gn", "is not of the form KEY=VALUE"),
    ("clip_len=[1,", "cannot be read"),
    ("clip_len={a", "cannot be read"),
    ("norm.depth.x=1", "unknown option"),
    ("resume.forced=true", "unknown option 'resume.forced'; resume is a value"),
    ("seed.x=1", "unknown option 'seed.x'; seed is a value, set it with seed=VALUE"),
    ("=4", "unknown option ''; use one of"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("word", "message"), WORDS)
def test_a_wrong_word(word, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_words("train", [word])


VALUES = [
    (lambda: ClipSpec(48, 64), r"clip_len \(48\) must divide span \(64\)"),
    (lambda: ClipSpec(0, 64), "clip_len"),
    (lambda: ClipSpec(-8, 64), "clip_len"),
    (lambda: ClipSpec(64, 32), "clip_len"),
    (lambda: OptimSpec(lr=0), r"optim.lr \(0\) must be a positive number"),
    (lambda: OptimSpec(lr=float("nan")), r"optim.lr \(nan\)"),
    (lambda: OptimSpec(lr=float("inf")), r"optim.lr \(inf\)"),
    (lambda: OptimSpec(lr_clips=0), "optim.lr_clips"),
    (lambda: OptimSpec(warmup=1), "optim.warmup"),
    (lambda: OptimSpec(drops=(0.7, 0.3)), "optim.drops"),
    (lambda: OptimSpec(drops=(1.5,)), "optim.drops"),
    (lambda: OptimSpec(schedule="step"), "optim.schedule"),
    (lambda: OptimSpec(momentum=0), "optim.nesterov=false"),
    (lambda: EpochSampler(0, batch=1, seed=0, shuffle=True), r"num_items \(0\)"),
    (lambda: EpochSampler(4, batch=0, seed=0, shuffle=True), r"batch \(0\)"),
    (lambda: EpochSampler(4, batch=1, seed=-1, shuffle=True), r"seed \(-1\)"),
    (lambda: EpochSampler(1, batch=1, seed=0, shuffle=True, world_size=2), "use fewer ranks"),
    (lambda: ShardSampler(4, rank=2, world_size=2), r"rank \(2\)"),
]


@pytest.mark.parametrize(("make", "message"), VALUES)
def test_a_wrong_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def checkpoint(path, kind):
    state = {"state_dict": {}, "vidgn": {"format": 1, "versions": {}}}
    if kind == "no key":
        del state["vidgn"]
    elif kind == "format":
        state["vidgn"]["format"] = 99
    torch.save([1] if kind == "list" else state, path, _use_new_zipfile_serialization=kind != "old")
    data = path.read_bytes()
    if kind == "bomb":
        with zipfile.ZipFile(path) as plain:
            parts = {name: plain.read(name) for name in plain.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, part in parts.items():
                packed.writestr(name, part)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as other:
            other.writestr("readme.txt", "no tensors")
    changed = {"empty": b"", "html": b"<html>404</html>", "cut": data[:-30], "text": b"a 1\n", "zeros": bytes(999)}
    if kind in changed:
        path.write_bytes(changed[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", r"\(0 bytes\) is not a whole checkpoint"),
        ("html", "is not a whole checkpoint"),
        ("cut", "is not a whole checkpoint|is damaged"),
        ("text", "is not a whole checkpoint"),
        ("zeros", "is not a whole checkpoint"),
        ("old", "is not a whole checkpoint"),  # torch's format before 1.6, which runs code
        ("zip", "cannot be read as tensors and plain values"),
        ("bomb", "has compressed parts"),
        ("no key", "does not describe itself"),
        ("list", "does not describe itself"),
        ("format", "has format 99"),
    ],
)
def test_a_wrong_checkpoint(tmp_path, kind, message):
    checkpoint(tmp_path / "a.ckpt", kind)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"{}", b"\x00" * 5000, b"RIFF", b"ffconcat version 1.0\nfile 'x'\n"]
)
def test_a_wrong_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoDecodeError, match=r"a\.mp4: \w"), open_video(tmp_path / "a.mp4"):
        pass


@pytest.mark.parametrize("name", ["none.mp4", "http://example.org/a.mp4", "pipe:0", "concat:a|b"])
def test_a_video_that_is_not_there(tmp_path, name):
    with pytest.raises(OSError, match="No such file"), open_video(f"{tmp_path}/{name}"):
        pass


@pytest.mark.parametrize("make", [lambda f: f, lambda f: f / "none", lambda f: f / "file"])
def test_a_wrong_folder(tmp_path, make):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises((ValueError, OSError), match=re.escape(str(tmp_path))):
        Manifest.from_folder(make(tmp_path), split="train", seed=0)


LISTS = [
    ("../a.mp4 0\n", r"row 1: the path '../a.mp4' leaves the root"),
    ("a/../../b.mp4 0\n", "leaves the root"),
    ("/etc/passwd 0\n", r"the path '/etc/passwd' leaves the root"),
    ("link/../../b.mp4 0\n", "leaves the root"),
    (". 0\n", "names no file"),
    ("a\0.mp4 0\n", "holds a NUL byte"),
    ("a.mp4 0\na.mp4 1\n", "has label 1 here and 0 in row 1"),
    ("a.mp4 2\n", "row 1"),  # two classes
    ("a.mp4 -1\n", "row 1"),
    ("a.mp4 3.0\n", "row 1"),
    ("a.mp4 dance\n", "row 1"),
    ("a.mp4\n", "row 1"),
    ("a.mp4 0 10\n", "row 1"),
    ("", "0 videos in"),
    ("path label\n", "0 videos in"),
    (b"\xff\xfea\0", "is UTF-16"),
    (b"a\xff.mp4 0\n", "not UTF-8"),
]


@pytest.mark.parametrize(("text", "message"), LISTS)
def test_a_wrong_list(tmp_path, text, message):
    """Names that leave the root are refused as text, whatever links there are."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    file = tmp_path / "list.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"(?s){re.escape(str(file))}.*{message}|{message}.*{re.escape(str(file))}"):
        Manifest.from_list(file, root=tmp_path / "root", classes=["x", "y"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "no class name"),
        ("a.txt", b"run\njump\nrun\n", r"\['run'\] stand more than once"),
        ("a.txt", b"\xff\xfe", "a.txt"),
        ("a.json", b"{", "a.json"),
        ("a.json", b"3", "a.json"),
        ("a.json", b'{"run": 1}', "a.json"),
        ("a.json", b'{"run": "x"}', "a.json"),
    ],
)
def test_a_wrong_class_list(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_classes(tmp_path / name)


@pytest.mark.parametrize("line", ["{", "[1]", "3", "null", '"x"', '{"id": 1}'])
def test_a_wrong_passport(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"a\.jsonl is not a vidgn passport"):
        read_passport(tmp_path / "a.jsonl")
