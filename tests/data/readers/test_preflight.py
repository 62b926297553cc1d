"""What both back ends beside PyAV refuse, and why they have to."""

import pytest

from vidgn.data.readers.preflight import is_idr, obstacle_in_start
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

from ..conftest import write_video

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.fixture
def playlist(tmp_path):
    """An mp4 file to whoever passes over its first box, of 565 MiB of nothing, and a playlist to whoever does not."""
    write_video(tmp_path / "other.ts")
    write_video(tmp_path / "plain.mp4", container_options=FRAGMENTS)
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:10", "#EXTINF:10,", str(tmp_path / "other.ts")]
    head = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()
    with open(tmp_path / "both.mp4", "wb") as file:  # sparse: it takes no room
        file.write(head)
        file.seek(int.from_bytes(head[:4], "big"))
        file.write((tmp_path / "plain.mp4").read_bytes())
    return tmp_path / "both.mp4"


@pytest.mark.slow
def test_pyav_reads_such_a_file_as_the_mp4_that_it_holds(playlist):
    with open_video(playlist) as video, open_video(playlist.with_name("plain.mp4")) as plain:
        assert (video.read(range(36)) == plain.read(range(36))).all()


@pytest.mark.slow
def test_decord_would_open_the_file_that_the_playlist_names(playlist):
    decord = pytest.importorskip("decord", reason="decord has no wheel for this machine")
    playlist.with_name("other.ts").unlink()
    with pytest.raises(RuntimeError, match=r"Error reading .*both\.mp4"):  # so it did not read the mp4
        decord.VideoReader(str(playlist))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_a_playlist_inside_is_refused(backend, playlist, monkeypatch):
    if backend == "decord":
        pytest.importorskip("decord", reason="decord has no wheel for this machine")
    monkeypatch.setattr("vidgn.data.readers.torchcodec.load_torchcodec", lambda: (None, 7))
    with pytest.raises(
        VideoDecodeError, match="it begins with the bytes 23 45 58 54 4d 33 55 0a, as no mp4/mov or mkv/"
    ):
        open_video(playlist, backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
def test_ordinary_files_begin_as_they_should(name, tmp_path):
    write_video(tmp_path / name, frames=2, codec="libvpx-vp9" if name == "a.webm" else "libx264")
    assert obstacle_in_start(str(tmp_path / name)) is None


AVCC = bytes([1, 100, 0, 31, 0xFF])  # sizes of four bytes


@pytest.mark.parametrize(
    ("packet", "extradata", "expected"),
    [
        (b"\0\0\0\1\x65", AVCC, True),
        (b"\0\0\0\1\x41", AVCC, False),
        (b"\0\0\0\2\x06\xff\0\0\0\1\x65", AVCC, True),  # behind supplementary information
        (b"\0\1\x65", bytes([1, 100, 0, 31, 0xFD]), True),  # sizes of two bytes
        (b"\0\0\0\2\x06\xff", AVCC, False),  # no slice
        (b"\0\0", AVCC, False),
        (b"\0\0\0\1\x65", b"\0\0\0\1\x67", False),  # start codes, which mp4 and mkv do not have
        (b"\0\0\0\1\x65", b"", False),
    ],
)
def test_an_idr_picture_is_known_by_its_first_slice(packet, extradata, expected):
    assert is_idr(packet, extradata=extradata) is expected
