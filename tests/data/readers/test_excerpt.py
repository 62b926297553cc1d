"""Segments and frame rates, against FFmpeg's own filters trim and fps and against arithmetic."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from vidgn.data.readers.excerpt import Times, resampled
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.excerpt import Excerpt, ImageFolder, Interval
from vidgn.data.video import open_video

STEADY = None  # 25 frames per second


def uneven(index: int) -> int:
    """Milliseconds of a variable frame rate: 33, 100, 33, 40, ... apart."""
    return sum((33, 100, 33, 40)[i % 4] for i in range(index))


def filtered(path, *filters):
    """Return the frames that FFmpeg's filters give of a file, each as the number of the frame it shows."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        chain = [graph.add_buffer(template=stream)]
        chain += [graph.add(name, arguments) for name, arguments in filters]
        chain.append(graph.add("buffersink"))
        for before, after in pairwise(chain):
            before.link_to(after)
        graph.configure()
        shown = {}
        for number, frame in enumerate(container.decode(stream)):
            shown[frame.to_ndarray(format="rgb24").tobytes()] = number
            graph.push(frame)
        graph.push(None)
        found = []
        while True:
            try:
                found.append(shown[graph.pull().to_ndarray(format="rgb24").tobytes()])
            except (av.error.EOFError, av.error.BlockingIOError):
                return found


def sources(path, **options):
    with open_video(Excerpt.of(str(path), **options)) as reader:
        return reader.sources.tolist()


@pytest.mark.parametrize("times", [STEADY, uneven])
@pytest.mark.parametrize(("start", "end"), [(0.2, 0.5), (0.0, 0.04), (0.133, 0.9), (0.1331, 99.0), (0.24, 0.42)])
def test_a_segment_in_seconds_is_what_ffmpeg_trim_gives(craft, times, start, end):
    path = craft("a.mp4", frames=20, times=times)
    wanted = filtered(path, ("trim", f"start={start}:end={end}"))
    assert sources(path, segment=Interval(start, end)) == wanted
    assert wanted == sorted(set(wanted))


@pytest.mark.parametrize("times", [STEADY, uneven])
@pytest.mark.parametrize("rate", ["25", "50", "12.5", "10", "7", "24", "29.97", "30000/1001", "60", "1"])
def test_a_rate_is_what_ffmpeg_fps_gives(craft, times, rate):
    path = craft("a.mp4", frames=20, times=times)
    wanted = filtered(path, ("fps", f"fps={rate}"))
    read = sources(path, fps=float(Fraction(rate)))
    # At the end FFmpeg's decoder may not know how long the last frame is shown; we take the time of the one before.
    assert read[: len(wanted)] == wanted[: len(read)]
    assert abs(len(read) - len(wanted)) <= max(1, Fraction(rate) / 10)


# frame times (ms), end (ms), rate, frames shown
CASES = [
    ([0, 40, 80, 120], 160, "25", [0, 1, 2, 3]),
    ([0, 40, 80, 120], 160, "50", [0, 0, 1, 1, 2, 2, 3, 3]),  # 20 ms is half a step: rounds up, to frame 1 at step 2
    ([0, 40, 80, 120], 160, "12.5", [0, 2]),  # steps of 80 ms; 40 rounds up to step 1, where 80 follows it
    ([0, 100, 110, 120], 200, "10", [0, 3]),  # three frames in one step: the last is shown
    ([0, 500], 600, "10", [0, 0, 0, 0, 0, 1]),  # a long pause repeats its frame
    ([0], 40, "25", [0]),
    ([0], 1, "25", [0]),  # at least one frame
    ([0, 33, 67, 100], 133, "30", [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("times", "end", "rate", "shown"), CASES)
def test_the_rule_of_a_rate_case_by_case(times, end, rate, shown):
    assert resampled(Times(np.array(times), end, Fraction(1, 1000)), Fraction(rate)).tolist() == shown


def test_the_rule_is_the_last_frame_that_rounds_to_the_step_or_less():
    generator = np.random.default_rng(3)
    for _ in range(50):
        times = np.cumsum(generator.integers(1, 90, 30)) - 1
        times -= times[0]
        rate = Fraction(int(generator.integers(1, 60000)), 1001)
        end = int(times[-1]) + 40
        shown = resampled(Times(times, end, Fraction(1, 1000)), rate).tolist()
        due = [(Fraction(int(t), 1000) * rate + Fraction(1, 2)).__floor__() for t in times]
        for step, frame in enumerate(shown):
            assert frame == max((i for i, d in enumerate(due) if d <= step), default=0)


def test_a_rate_that_is_absurd_is_refused():
    with pytest.raises(ValueError, match=r"data.fps \(1e\+09\) makes"):
        resampled(Times(np.array([0]), 100, Fraction(1, 1)), Fraction(10**9))


def test_a_segment_and_a_rate_count_from_the_first_frame_of_the_segment(craft):
    path = craft("a.mp4", frames=20, times=uneven)
    wanted = filtered(path, ("trim", "start=0.2:end=0.7"), ("setpts", "PTS-STARTPTS"), ("fps", "fps=30"))
    read = sources(path, segment=Interval(0.2, 0.7), fps=30)
    assert read[: len(wanted)] == wanted[: len(read)]
    assert abs(len(read) - len(wanted)) <= 3


def test_a_segment_in_frames_is_a_slice_for_every_codec(craft, decode_all):
    path = craft("a.avi", frames=20, codec="mpeg4")
    whole = decode_all(path)
    with open_video(Excerpt.of(str(path), segment=Interval(5, 9, "frames"))) as reader:
        assert len(reader) == 4
        assert np.array_equal(
            reader.read(np.array([[3, 0], [1, 1]])), np.stack([whole[i] for i in (8, 5, 6, 6)]).reshape(2, 2, 48, 64, 3)
        )
    assert sources(path, segment=Interval(18, 99, "frames")) == [18, 19]
    assert sources(path, segment=Interval(None, 2, "frames")) == [0, 1]


def test_a_container_without_times_has_even_steps(craft):
    path = craft("a.avi", frames=20, codec="mpeg4")
    assert sources(path, segment=Interval(0.2, 0.4)) == [5, 6, 7, 8, 9]


def test_the_native_rate_of_an_uneven_video_is_its_mean(craft):
    path = craft("a.mp4", frames=20, times=uneven)
    with open_video(Excerpt.of(str(path), fps=0)) as reader, open_video(path) as whole:
        assert reader.fps == pytest.approx(whole.fps, rel=1e-3)
        assert abs(len(reader) - len(whole)) <= 1
        assert len(set(reader.sources.tolist())) < len(whole)


def test_frames_shown_twice_are_equal_and_come_in_order(craft, decode_all):
    path = craft("a.mp4", frames=6)
    whole = decode_all(path)
    with open_video(Excerpt.of(str(path), fps=50)) as reader:
        pairs = list(reader.frames(range(len(reader))))
    assert [index for index, _ in pairs] == list(range(12))
    assert all(np.array_equal(image, whole[index // 2]) for index, image in pairs)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Interval(30.0, 31.0), r"a.mp4#t=30,31: the segment holds no frame; the video lasts 0.800 s"),
        (Interval(0.01, 0.02), r"#t=0.01,0.02: the segment holds no frame"),
        (Interval(20, None, "frames"), r"#f=20,: the segment holds no frame; the video has 20"),
    ],
)
def test_a_segment_without_frames_is_a_bad_video(craft, segment, message):
    path = craft("a.mp4", frames=20)
    with pytest.raises(VideoDecodeError, match=message):
        open_video(Excerpt.of(str(path), segment=segment))


def write_images(folder, numbers, name="img_{:05d}.png", size=(4, 6)):
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(np.full((*size, 3), number, np.uint8)).save(folder / name.format(number))


def values(path, **options):
    with open_video(Excerpt.of(str(path), images=ImageFolder(**options))) as reader:
        return [int(image[0, 0, 0]) for _, image in reader.frames(range(len(reader)))]


class TestImageFolders:
    @pytest.mark.parametrize("numbers", [range(1, 13), range(12)])  # one-based and zero-based
    def test_images_come_in_the_order_of_their_numbers(self, tmp_path, numbers):
        write_images(tmp_path / "v", numbers, name="frame{}.png")
        (tmp_path / "v" / "notes.txt").write_text("x")
        (tmp_path / "v" / ".hidden.png").write_text("x")
        assert values(tmp_path / "v") == list(numbers)

    @pytest.mark.parametrize("pattern", ["flow_x_{:05d}.png", "flow_x_%05d.png", "flow_x_*.png"])
    def test_a_pattern_chooses_among_images_of_several_kinds(self, tmp_path, pattern):
        write_images(tmp_path / "v", [1, 2], name="flow_x_{:05d}.png")
        write_images(tmp_path / "v", [1, 2, 3], name="img_{:05d}.png")
        assert values(tmp_path / "v", pattern=pattern) == [1, 2]

    @pytest.mark.parametrize(
        ("numbers", "pattern", "message"),
        [
            (
                [1, 2, 4, 6],
                None,
                r"v: 2 of the images 1 to 6 are missing, the first is 3; add them, or set data.gaps=close",
            ),
            ([1], "x_*.png", r"v: the folder holds no image named x_\*.png \(1 other files\)"),
        ],
    )
    def test_gaps_and_wrong_patterns_are_named(self, tmp_path, numbers, pattern, message):
        write_images(tmp_path / "v", numbers)
        with pytest.raises(VideoDecodeError, match=message):
            values(tmp_path / "v", pattern=pattern)

    def test_gaps_close_where_that_is_asked_for(self, tmp_path):
        write_images(tmp_path / "v", [1, 2, 4, 6])
        assert values(tmp_path / "v", gaps="close") == [1, 2, 4, 6]
        with open_video(Excerpt.of(str(tmp_path / "v"), images=ImageFolder(gaps="close"))) as reader:
            assert reader.notes == ("2 of the images 1 to 6 are missing, the first is 3",)

    def test_two_images_of_one_number_are_named(self, tmp_path):
        write_images(tmp_path / "v", [1], name="a{}.png")
        write_images(tmp_path / "v", [1], name="b{}.png")
        with pytest.raises(VideoDecodeError, match=r"a1.png and b1.png have the same number; set data.images"):
            values(tmp_path / "v")

    def test_damaged_images_and_other_sizes_are_bad_videos(self, tmp_path):
        write_images(tmp_path / "v", [1, 2])
        (tmp_path / "v" / "img_00003.png").write_bytes(b"no image")
        with pytest.raises(VideoDecodeError, match=r"img_00003.png: the image cannot be decoded"):
            values(tmp_path / "v")
        write_images(tmp_path / "v", [3], size=(5, 6))
        with pytest.raises(VideoDecodeError, match=r"img_00003.png has 6x5 px, other images have 6x4 px"):
            values(tmp_path / "v")

    def test_a_folder_that_is_missing_or_a_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            values(tmp_path / "nowhere")
        (tmp_path / "file").write_text("x")
        with pytest.raises(NotADirectoryError, match="file"):
            values(tmp_path / "file")

    def test_a_segment_in_seconds_uses_the_rate_of_the_images(self, tmp_path):
        write_images(tmp_path / "v", range(1, 21))
        whole = ImageFolder(fps=10)
        with open_video(Excerpt.of(str(tmp_path / "v"), segment=Interval(0.5, 1.0), images=whole)) as reader:
            assert reader.sources.tolist() == [5, 6, 7, 8, 9]
            assert (len(reader), reader.height, reader.width, reader.fps) == (5, 4, 6, 10)
            assert reader.read(np.array([0]))[0, 0, 0, 0] == 6

    def test_an_image_that_is_too_large_is_refused(self, tmp_path):
        write_images(tmp_path / "v", [1])
        with pytest.raises(VideoDecodeError, match=r"6x4 pixels are more than 20"):
            next(iter(open_video(Excerpt.of(str(tmp_path / "v"), images=ImageFolder()), max_pixels=20).frames([0])))


def test_seconds_need_a_backend_that_tells_times(craft):
    path = craft("a.mp4", frames=20)
    with pytest.raises(ValueError, match=r"times in seconds need data.backend=pyav"):
        open_video(Excerpt.of(str(path), segment=Interval(0.1, 0.5)), backend="decord")
    with open_video(Excerpt.of(str(path), segment=Interval(2, 5, "frames")), backend="decord") as reader:
        assert len(reader) == 3
