import io
import json

import numpy as np
import pytest

from vidgn.curation import kinetics_check
from vidgn.curation.kinetics_check import TABLE8, check_copy, run_reproduce
from vidgn.curation.kinetics_sample import sample_facts
from vidgn.data.passports.passport import VideoFacts, write_passport
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests
from vidgn.data.synthetic.motions import write_video

HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture
def copy(tmp_path):
    """Two classes; four training and four validation videos are annotated, the last of each is not there."""
    frames = np.zeros((70, 256, 340, 3), np.uint8)
    for split in ("train", "val"):
        rows = [f"{label},{split}{label}{number},0,10,{split}\n" for label in ("jump", "run") for number in range(2)]
        (tmp_path / f"{split}.csv").write_text(HEADER + "".join(rows))
        (tmp_path / split).mkdir()
        for name in ("jump0", "jump1", "run0"):
            write_video(tmp_path / split / f"{split}{name}_000000_000010.mp4", frames, fps=30)
    return tmp_path


def say(*words, check=True, as_json=False, sample=10):
    out = io.StringIO()
    return run_reproduce(words, check=check, sample=sample, out=out, as_json=as_json), out.getvalue()


def findings(root):
    manifests = read_manifests(DataSpec(name="kinetics400", root=str(root)))
    return {finding.about: finding for finding in check_copy(manifests, passport=None, sample=10)}


@pytest.mark.slow
def test_a_small_copy_is_not_comparable_and_every_finding_says_why(copy):
    status, text = say(f"data.root={copy}")
    assert status == 1
    assert "NOT comparable with Table 8" in text
    found = findings(copy)
    assert found["classes"].points is None
    assert found["train: annotated"].found == "4 of 246,535"
    assert found["val: missing"].points == pytest.approx(18.25)  # one of four, at a top-1 of 73 %
    assert "takes up to 18.25 points off a top-1 of 73 %" in found["val: missing"].advice
    assert found["short side"].points == 0.0
    assert found["frame rate"].found == "6 looked at: 30 fps 6"
    assert found["length"].points == 0.0


def test_missing_training_videos_cost_what_they_cost_video_nonlocal_net():
    # 246,535 - 234,643 = 11,892 videos fewer cost it less than 0.5 points
    assert kinetics_check._lost_train(11_892) == pytest.approx(0.5)
    assert kinetics_check._lost_train(5_277) == pytest.approx(0.2219, abs=1e-4)  # 241,258 in the CVDF copy
    assert kinetics_check._lost_val(146, 19_907) == pytest.approx(0.535, abs=1e-3)  # 19,761 in December 2017


def facts(name, **changes):
    row = VideoFacts(name, name, "", 1, 1, "x", "h264", 340, 256, 0, 29.97, 300, 300, 10.0, "ok")
    return row._replace(**changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("about", "change", "points", "words"),
    [
        ("short side", {"width": 320, "height": 240}, None, "256 px 98, 240 px 2"),
        ("frame rate", {"fps": 15.0}, None, "30 fps 98, 15 fps 2"),
        ("length", {"frames": 40}, None, "2 shorter than 64 frames"),
        ("aspect", {}, None, "100 of a fixed shape"),  # 340x256, all of them: squashed
    ],
)
def test_files_that_differ_from_the_papers(copy, about, change, points, words):
    rows = [facts(f"{number}.mp4", **(change if number < 2 else {})) for number in range(100)]
    manifests = read_manifests(DataSpec(name="kinetics400", root=str(copy)))
    found = {f.about: f for f in check_copy(manifests, passport=rows, sample=1)}[about]
    assert found.points == points
    assert words in found.found
    assert found.advice


@pytest.mark.slow
def test_a_single_odd_file_among_thousands_is_bounded(copy):
    rows = [facts(f"{n}.mp4", width=400 + n % 7, **({"fps": 15.0} if n == 0 else {})) for n in range(1000)]
    manifests = read_manifests(DataSpec(name="kinetics400", root=str(copy)))
    found = {f.about: f for f in check_copy(manifests, passport=rows, sample=1)}
    assert found["frame rate"].points == pytest.approx(0.1)
    assert found["aspect"].points == 0.0


@pytest.mark.slow
def test_a_passport_is_believed(copy):
    names = [f"{split}/{split}{name}_000000_000010.mp4" for split in ("train", "val") for name in ("jump0", "run0")]
    broken = facts("val/valjump1_000000_000010.mp4", status="damaged")
    write_passport([*(facts(name) for name in names), broken], copy / "p.jsonl")
    status, text = say(f"data.root={copy}", f"data.passport={copy}/p.jsonl", as_json=True)
    assert status == 1
    found = {f["about"]: f for f in json.loads(text)["findings"]}
    assert found["val: missing"]["found"].startswith("2 of 4")  # one is not there, one is damaged
    assert found["short side"]["found"].startswith("all 4")


@pytest.mark.slow
def test_a_copy_like_the_papers_is_comparable(copy, monkeypatch):
    monkeypatch.setattr(kinetics_check, "ANNOTATED", {"train": 3, "val": 3})
    monkeypatch.setattr(kinetics_check, "_classes", lambda train: kinetics_check.Finding("classes", "400", 0.0))
    for split in ("train", "val"):
        file = copy / f"{split}.csv"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:4]))
    monkeypatch.setattr(
        kinetics_check, "sample_facts", lambda manifest, count: [facts("a", width=455), facts("b", width=300)]
    )
    status, text = say(f"data.root={copy}")
    assert status == 0
    assert "comparable with Table 8: points of top-1 in the second column, 0.00 together" in text


@pytest.mark.slow
def test_files_that_cannot_be_read_are_told(copy):
    for path in copy.rglob("*.mp4"):
        path.write_bytes(b"nothing")
    found = findings(copy)
    assert found["files"].points is None
    assert found["files"].advice == "see vidgn scan"


def test_without_check_the_six_commands_are_printed():
    status, text = say(check=False)
    assert status == 0
    assert len(text.splitlines()) == 6
    assert "preset=gn_t64_b4 data.root=DIR trainer.devices=8   # 74.5 / 91.7, within 0.3 points" in text
    assert json.loads(say(check=False, as_json=True)[1])["bn_t32_b4"] == {"top1": 72.1, "top5": 90.0}
    assert len(TABLE8) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), r"data\.root is missing"),
        (("root=/x",), r"unknown option 'root=/x'; use data\.root="),
        (("data.root",), r"unknown option 'data\.root'"),
    ],
)
def test_words_that_do_not_belong_here(words, message):
    with pytest.raises(ValueError, match=message):
        say(*words)


@pytest.mark.slow
def test_a_sample_of_no_videos_is_refused(copy):
    with pytest.raises(ValueError, match=r"--sample \(0\) must be at least 1"):
        say(f"data.root={copy}", sample=0)


@pytest.mark.slow
def test_a_sample_is_spread_over_the_videos_that_are_there(copy):
    manifest = read_manifests(DataSpec(name="kinetics400", root=str(copy)))["train"]
    rows = sample_facts(manifest, count=2)
    assert [row.id for row in rows] == [
        "train/trainjump0_000000_000010.mp4",
        "train/trainrun0_000000_000010.mp4",
    ]
    assert (rows[0].width, rows[0].height, rows[0].fps, rows[0].frames) == (340, 256, 30.0, 70)
