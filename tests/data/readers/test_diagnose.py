import io

import pytest

from vidgn.data.readers.diagnose import contents, damage


def box(kind, body=b"", *, length=None):
    return (8 + len(body) if length is None else length).to_bytes(4, "big") + kind + body


def long_box(kind, body):
    return (1).to_bytes(4, "big") + kind + (16 + len(body)).to_bytes(8, "big") + body


FTYP, MOOV, MDAT = box(b"ftyp", b"isom"), box(b"moov", bytes(20)), box(b"mdat", bytes(100))


def fragment(*, base=None, offset=None, tables=b""):
    """Return moof and mdat; `base` and `offset` say where the pictures lie, None: nothing."""
    tfhd = box(b"tfhd", (b"\0\0\0\1" if base is not None else bytes(4)) + bytes(4) + (base or 0).to_bytes(8, "big"))
    trun = box(b"trun", (b"\0\0\0\1" if offset is not None else bytes(4)) + bytes(4) + (offset or 0).to_bytes(4, "big"))
    return box(b"moof", box(b"mfhd", bytes(8)) + box(b"traf", tfhd + trun) + tables) + MDAT


EBML = b"\x1a\x45\xdf\xa3\x80"


def segment(size, body=bytes(10)):
    return EBML + b"\x18\x53\x80\x67" + size + body


@pytest.mark.parametrize(
    "data",
    [
        FTYP + MOOV + MDAT,
        FTYP + MDAT + MOOV,
        FTYP + long_box(b"mdat", bytes(100)) + MOOV,  # a 64-bit length
        FTYP + MOOV + box(b"mdat", bytes(9), length=0),  # 0: up to the end of the file
        FTYP + MOOV + MDAT + box(b"junk", bytes(3), length=999),  # something behind the film
        b"RIFF" + (16).to_bytes(4, "little") + bytes(16),
        b"RIFF" + b"\xff" * 4 + bytes(16),  # length unknown
        FTYP + MOOV + fragment(base=40, offset=84),  # its own place, and 84 bytes of tables
        FTYP + MOOV + fragment(offset=84),  # its own place is meant
        FTYP + MOOV + fragment(),  # says nothing
        FTYP + MOOV + MDAT + fragment(base=48, offset=0),  # pictures before it
        FTYP + MOOV + fragment(offset=84) + fragment(base=40, offset=300),  # a later one is not looked at
        segment(b"\x8a"),  # ten bytes
        segment(b"\x40\x0a"),  # ten bytes, in two
        segment(b"\xff"),  # length unknown, one byte
        segment(b"\x01" + b"\xff" * 7),  # length unknown, eight bytes
        EBML + bytes(100),  # no segment in sight
        b"\x47" + bytes(400),  # a transport stream says nothing of its length
        b"this is not a video",
    ],
)
def test_a_whole_file_is_not_called_truncated(data):
    assert damage(io.BytesIO(data)) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (FTYP + MDAT[:50], "no index (moov): incomplete download?"),
        (FTYP, "no index (moov): incomplete download?"),
        (FTYP + MOOV + MDAT[:50], "truncated: 58 of 148 bytes are missing: incomplete download?"),
        (FTYP + MDAT + MOOV[:20], "truncated: 8 of 148 bytes are missing: incomplete download?"),
        (FTYP + long_box(b"mdat", bytes(100))[:60], "no index (moov): incomplete download?"),
        (
            b"RIFF" + (20).to_bytes(4, "little") + bytes(16),
            "truncated: 4 of 28 bytes are missing: incomplete download?",
        ),
        (segment(b"\x8b"), "truncated: 1 of 21 bytes are missing: incomplete download?"),
        (segment(b"\x40\x0c"), "truncated: 2 of 23 bytes are missing: incomplete download?"),
    ],
)
def test_what_is_missing_is_counted(data, reason):
    assert damage(io.BytesIO(data)) == reason


@pytest.mark.parametrize(
    "data",
    [
        FTYP + MOOV + box(b"free", bytes(32)) + fragment(base=40, offset=84),  # something was put before it
        FTYP + MOOV + box(b"free", bytes(32)) + fragment(offset=75),  # one byte short of the end
        FTYP + MOOV + box(b"sidx", bytes(32)) + fragment(base=40, offset=32),  # before itself
    ],
)
def test_a_fragment_that_looks_for_pictures_among_tables_is_named(data):
    reason = damage(io.BytesIO(data))
    assert reason is not None
    assert reason.startswith("its first fragment (bytes 80 to 156) says that its pictures begin at byte ")
    assert reason.endswith("with movflags=global_sidx alone: add default_base_moof and mux again")


UNREAD = "which is not read; copy it into another one: ffmpeg -i FILE -c copy FILE.mkv"
TO_ENCODE = "which is not read as a video; encode it: ffmpeg -i FILE -c:v libx264 -qp 0 FILE.mkv"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html><body>404</body></html>\n", "not a video: it begins with the text '<html><body>404</body></html>\\n'"),
        (b'{"error": "gone"}', 'not a video: it begins with the text \'{"error": "gone"}\''),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "an image (PNG), " + TO_ENCODE),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(20), "an image (JPEG), " + TO_ENCODE),
        (
            b"RIFF" + (20).to_bytes(4, "little") + b"WEBP" + bytes(16),
            "an image (WebP), which is not read as a video; encode it as mp4, mkv or gif",
        ),
        (bytes.fromhex("00000001 67 64000a"), "a raw stream of H.264 or HEVC without a container, " + TO_ENCODE),
        (bytes.fromhex("000001b3 06004013"), "a raw stream of MPEG-1 or MPEG-2 without a container, " + TO_ENCODE),
        (bytes.fromhex("12000a0a 00000003"), "a video in the container OBU, " + UNREAD),
        (bytes.fromhex("000001ba 44000400"), "not a video: it begins with the bytes 00 00 01 ba 44 00 04 00"),
        (b"\x06\x0e\x2b\x34\x02\x05\x01\x01" + bytes(8), "a video in the container MXF, " + UNREAD),
        (b".RMF\0\0\0\x12" + bytes(8), "a video in the container RealMedia, " + TO_ENCODE),
        ("ä text".encode(), "not a video: it begins with the bytes c3 a4 20 74 65 78 74"),
        (FTYP + MOOV, "its headers are damaged"),
        (segment(b"\xff"), "its headers are damaged"),
    ],
)
def test_what_is_there_instead_of_a_video_is_said(data, reason):
    assert contents(io.BytesIO(data)) == reason
