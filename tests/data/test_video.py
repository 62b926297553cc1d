import os
import pickle
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

BACKENDS = ["pyav", "decord"]

BROKEN = {
    "audio_only.wav": "no video stream, only audio",
    "corrupted.mp4": "packets of the stream are lost or damaged: packet 30: Invalid data found when processing input",
    "text.mp4": "not a video: it begins with the text 'this is not a video\\n'",
    "truncated.mp4": "no index (moov): incomplete download?",
    "zero_bytes.mp4": "empty file",
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_say_what_is_wrong_with_them(name, backend, real_videos):
    path, reason = str(real_videos / "broken" / name), re.escape(BROKEN[name])
    with (
        pytest.raises(VideoDecodeError, match=f"^{re.escape(path)}: {reason}$") as caught,
        open_video(path, backend=backend) as video,
    ):
        list(video.frames(range(len(video))))
    assert caught.value.path == path
    assert re.fullmatch(reason, caught.value.reason)


def test_every_broken_file_is_in_the_table(real_videos):
    assert {path.name for path in (real_videos / "broken").iterdir()} == set(BROKEN)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reader_gives_frames_and_clips(backend, craft, decode_all):
    path = craft("v.mp4")
    truth = np.stack(decode_all(path))
    with open_video(path, backend=backend) as video:
        assert (video.path, len(video), video.height, video.width, video.fps) == (str(path), 36, 48, 64, 25.0)
        assert [index for index, _ in video.frames([7, 3, 7])] == [3, 7]
        indices = np.array([[30, 4, 4], [0, 35, 1]])
        np.testing.assert_array_equal(video.read(indices), truth[indices])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_reader_says_so(backend, craft):
    video = open_video(craft("v.mp4"), backend=backend)
    video.close()
    with pytest.raises(ValueError, match=r"the reader of .*v\.mp4 is closed; open the video again"):
        video.frames([0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("index", [-1, 36])
def test_a_frame_outside_of_the_video_is_refused(index, backend, craft):
    message = rf"frame {index} of .*v\.mp4 does not exist; its frames are 0\.\.35\."
    with open_video(craft("v.mp4"), backend=backend) as video, pytest.raises(IndexError, match=message):
        video.frames([index])


def test_an_unknown_backend_lists_the_choices(craft):
    with pytest.raises(ValueError, match=r"backend \('opencv'\) must be one of pyav, decord, torchcodec\."):
        open_video(craft("v.mp4"), backend="opencv")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["num_threads", "max_pixels"])
def test_a_number_below_one_is_refused(name, craft):
    with pytest.raises(ValueError, match=rf"{name} \(0\) must be at least 1\."):
        open_video(craft("v.mp4"), **{name: 0})


# The six names that shells, format strings and manifests trip over, and one that is not UTF-8.
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name",
    ["юникод 动作 😀.mp4", 'it\'s "so", ok.mp4', "new\nline.mp4", "-dash.mp4", "%03d.mp4", "http:.mp4", "noname"],
)
def test_hostile_names_are_names(name, backend, craft, monkeypatch):
    path = craft("v.mp4").rename(craft("v.mp4").with_name(name))
    monkeypatch.chdir(path.parent)
    with open_video(name, backend=backend) as video:
        assert len(list(video.frames([0, 35]))) == 2


def test_a_name_that_is_not_utf8_is_a_name(craft):
    path = os.fsencode(craft("v.mp4"))
    os.rename(path, path + b"\xff.mp4")
    with open_video(os.fsdecode(path + b"\xff.mp4")) as video:
        assert len(video) == 36


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "path", ["gone.mp4", "http://localhost:9/v.mp4", "concat:a.mp4|b.mp4", "pipe:0", "subfile,,:v"]
)
def test_a_path_is_never_a_url(path, backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(path)):
        open_video(path, backend=backend)


def test_errors_of_the_file_system_keep_their_class(tmp_path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "dangling.mp4").symlink_to("gone.mp4")
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        open_video(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"dangling\.mp4"):
        open_video(tmp_path / "dangling.mp4")
    with pytest.raises(OSError, match=r"symbolic links.*loop\.mp4"):
        open_video(tmp_path / "loop.mp4")


# Reading any of these would block or never end.
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_a_regular_file_is_refused_unread(backend, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "s"))
        for path, kind in (
            (tmp_path / "pipe.mp4", r"a pipe \(FIFO\)"),
            (tmp_path / "s", "a socket"),
            ("/dev/zero", "a character device"),
        ):
            with pytest.raises(VideoDecodeError, match=f"{kind}, not a regular file"):
                open_video(path, backend=backend)


def test_a_name_with_a_nul_byte_is_refused_by_name():
    with pytest.raises(VideoDecodeError, match="the name holds a NUL byte"):
        open_video("a\0b.mp4")


# Scripts that make FFmpeg open other files; the video they name is there and readable.
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile v.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nv.mp4\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>v.mp4</BaseURL></Period></MPD>',
    ],
)
def test_scripts_are_not_followed(text, backend, craft):
    path = craft("v.mp4").with_name("script.mp4")
    path.write_text(text)
    with pytest.raises(VideoDecodeError, match="not a video: it begins with the text"):
        open_video(path, backend=backend)


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(VideoDecodeError("a: b.mp4", "empty: file")))
    assert (error.path, error.reason, str(error)) == ("a: b.mp4", "empty: file", "a: b.mp4: empty: file")


class Videos(Dataset):
    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return open_video(self.path)


def test_the_error_of_a_worker_is_the_same_error_and_names_the_file(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoDecodeError, match=r"empty\.mp4: empty file"):
        list(DataLoader(Videos(str(tmp_path / "empty.mp4")), num_workers=1))


def test_importing_the_reader_imports_no_decoder():
    code = "import sys, vidgn.data.video; print([m for m in ('av', 'decord', 'torchcodec') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
