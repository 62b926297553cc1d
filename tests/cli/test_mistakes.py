"""What a newcomer does wrong with a data set or a machine; what is wrong on the command line stands in test_cli.py."""

import sys
from types import SimpleNamespace

import pytest

from vidgn.data.manifests.manifest import Manifest
from vidgn.doctor import checks
from vidgn.doctor.checks import known_bad_checks, package_versions


def test_a_folder_without_classes(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"film")
    with pytest.raises(ValueError, match="holds videos but no class folders") as error:
        Manifest.from_folder(tmp_path, split="train")
    assert str(error.value).startswith(str(tmp_path))
    assert str(error.value).endswith("; put them into a folder per class")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises((ValueError, OSError), match="gone"):
        Manifest.from_folder(tmp_path / "gone", split="train")


@pytest.mark.slow
def test_torchcodec_without_ffmpeg_is_a_warning_with_what_to_do(monkeypatch):
    def fail(name):
        raise RuntimeError("Could not load libtorchcodec.\nLikely causes: FFmpeg is not installed")

    monkeypatch.setattr(checks, "_load_torchcodec", lambda: fail("torchcodec"))
    results = known_bad_checks({**package_versions(), "torchcodec": "0.15.0", "torch": "2.15.0"})
    (found,) = [check for check in results if check.name == "torchcodec"]
    assert found.status == "warn"  # PyAV reads without it
    assert found.found == "RuntimeError: Could not load libtorchcodec."
    assert found.advice == "install FFmpeg as shared libraries, or stay with PyAV"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ffmpeg", "status", "said"), [(None, "warn", "finds none that fits"), (7, "ok", "loads with FFmpeg 7")]
)
def test_a_torchcodec_that_imports_without_ffmpeg_is_found_out(ffmpeg, status, said, monkeypatch):
    stand_in = SimpleNamespace(ffmpeg_major_version=ffmpeg, decoders=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec", stand_in)
    checks = known_bad_checks({**package_versions(), "torchcodec": "0.17.0", "torch": "2.15.0"})
    (found,) = [check for check in checks if check.name == "torchcodec"]
    assert found.status == status
    assert said in found.found
