import numpy as np
import pytest

from vidgn.data.readers.plain_decode import Checked, check_order
from vidgn.data.readers.pyav.frame_index import FrameIndex
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

from .test_left_out import cut_start, with_edits
from .test_times_that_mislead import B_FRAMES, retimed

OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v.mp4", {"options": B_FRAMES}),
        ("open.ts", {"options": OPEN}),
        ("v.avi", {}),
        ("mpeg2.mpg", {"codec": "mpeg2video"}),
    ],
)
def test_random_accesses_equal_a_plain_decode(name, options, craft):
    with open_video(craft(name, **options)) as video:
        assert check_order(video) == Checked(36, 0)


@pytest.mark.slow
def test_frames_that_are_hidden_or_left_out_are_no_frames(craft, tmp_path):
    edited = craft("v.mp4", frames=60, options=B_FRAMES, container_options={"video_track_timescale": "12800"})
    with open_video(with_edits(edited, (13, 20))) as video:
        assert check_order(video).num_frames == 20
    path = cut_start(craft("whole.ts", frames=48, options=OPEN), tmp_path / "cut.ts", packets=5)
    with open_video(path) as video:
        assert check_order(video).num_frames == len(video) < 43


def test_times_that_mislead_are_settled_first(craft, tmp_path):
    path = retimed(craft("whole.mp4", options=B_FRAMES), tmp_path / "v.mp4", lambda number, rank: number)
    with open_video(path) as video:
        assert video.is_timed
        assert check_order(video) == Checked(36, 0)
        assert not video.is_timed


@pytest.mark.slow
def test_an_index_in_another_order_is_an_error(craft, monkeypatch):
    with open_video(craft("v.mp4", options={"bf": "0"})) as video:
        order = [*range(12), 13, 12, *range(14, 36)]
        rank = np.argsort(order).tolist()
        video.index = FrameIndex(order=order, rank=rank, keys=video.index.keys)
        monkeypatch.setattr(video, "settle", lambda *_: None)
        with pytest.raises(VideoDecodeError, match="frame 12 of 36, read alone, is not that of a plain decode"):
            check_order(video)


@pytest.mark.slow
def test_other_pixels_are_an_error(craft, monkeypatch):
    with open_video(craft("v.mp4", options={"bf": "0"})) as video:
        decode_run = video.decode_run
        # A random access that gives the frame before the wanted one.
        monkeypatch.setattr(
            video, "decode_run", lambda run: decode_run(run._replace(frames=[max(0, run.frames[0] - 1)]))
        )
        with pytest.raises(VideoDecodeError, match=r"frame \d+ of 36, read alone, has other pixels than that of a"):
            check_order(video)
