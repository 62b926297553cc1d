import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgn.data import clips
from vidgn.data.clips import ClipSpec, frame_indices, random_draws, train_start

frames = st.integers(1, 10_000)
spans = st.integers(1, 256)


# Kinetics (300 frames at 30 fps), shorter than the span, as long as it, one less, one frame, and odd ones.
NONLOCAL_STARTS = {
    300: [0, 30, 60, 90, 120, 150, 180, 210, 240, 270],
    64: [0, 6, 12, 19, 25, 32, 38, 44, 51, 57],
    63: [0, 6, 12, 18, 25, 31, 37, 44, 50, 56],
    57: [0, 5, 11, 17, 22, 28, 34, 39, 45, 51],
    50: [0, 5, 10, 15, 20, 25, 30, 35, 40, 45],
    10: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    3: [0, 0, 0, 0, 1, 1, 1, 2, 2, 2],
    1: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize(("num_frames", "starts"), NONLOCAL_STARTS.items())
def test_ten_test_clips_start_where_video_nonlocal_net_starts_them(num_frames, starts):
    assert clips.test_starts(num_frames, num_clips=10, span=64).tolist() == starts


# 236 places of room; then one, none, and less than none.
LINSPACE_STARTS = {
    300: [0, 26, 52, 79, 105, 131, 157, 184, 210, 236],
    65: [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    64: [0] * 10,
    50: [0] * 10,
}


@pytest.mark.parametrize(("num_frames", "starts"), LINSPACE_STARTS.items())
def test_linspace_clips_reach_the_end_of_the_video(num_frames, starts):
    assert clips.test_starts(num_frames, num_clips=10, span=64, rule="linspace").tolist() == starts


@pytest.mark.parametrize("rule", ["nonlocal", "linspace"])
def test_a_single_test_clip_starts_at_the_beginning(rule):
    assert clips.test_starts(300, num_clips=1, span=64, rule=rule).tolist() == [0]


def test_test_starts_are_int64():
    assert clips.test_starts(300, num_clips=3, span=64).dtype == np.int64


@given(frames, st.integers(1, 40), spans, st.sampled_from(["nonlocal", "linspace"]))
def test_test_starts_never_go_back_and_stay_inside_the_video(num_frames, num_clips, span, rule):
    starts = clips.test_starts(num_frames, num_clips=num_clips, span=span, rule=rule)
    assert starts.shape == (num_clips,)
    assert (np.diff(starts) >= 0).all()
    assert starts.min() == 0
    assert starts.max() < num_frames


# 0.0 and the largest double below 1 are the ends of the range of starts, 0 and 300 - 64.
@pytest.mark.parametrize(
    ("num_frames", "uniform", "start"),
    [(300, 0.0, 0), (300, 0.5, 118), (300, 1 - 2**-53, 236), (64, 0.999, 0), (65, 0.5, 1), (10, 0.7, 0), (1, 0.9, 0)],
)
def test_a_draw_gives_this_training_start(num_frames, uniform, start):
    assert train_start(num_frames, span=64, uniform=uniform) == start


def test_every_training_start_is_equally_likely():
    starts = [train_start(67, span=64, uniform=(k + 0.5) / 400) for k in range(400)]
    assert [starts.count(s) for s in range(5)] == [100, 100, 100, 100, 0]


@given(frames, spans, st.floats(0, 1, exclude_max=True))
def test_a_training_clip_does_not_wrap_unless_the_video_is_short(num_frames, span, uniform):
    assert 0 <= train_start(num_frames, span=span, uniform=uniform) <= max(num_frames - span, 0)


def test_frames_of_a_clip_are_a_stride_apart():
    assert frame_indices(np.array([5]), clip_len=4, span=8, num_frames=300).tolist() == [[5, 7, 9, 11]]


def test_the_last_test_clip_wraps_to_the_beginning():
    starts = clips.test_starts(300, num_clips=10, span=64)
    last = frame_indices(starts, clip_len=32, span=64, num_frames=300)[9]
    assert last.tolist() == [
        270,
        272,
        274,
        276,
        278,
        280,
        282,
        284,
        286,
        288,
        290,
        292,
        294,
        296,
        298,
        *range(0, 33, 2),
    ]


def test_short_video_loops_to_its_start():
    assert frame_indices(np.array([0, 3]), clip_len=8, span=8, num_frames=5).tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2],
        [3, 4, 0, 1, 2, 3, 4, 0],
    ]


def test_a_one_frame_video_is_a_still():
    assert frame_indices(np.array([0]), clip_len=4, span=8, num_frames=1).tolist() == [[0, 0, 0, 0]]


@given(frames, st.integers(0, 20_000), st.integers(1, 64), st.integers(1, 4))
def test_frame_indices_are_frames_of_the_video(num_frames, start, clip_len, stride):
    indices = frame_indices(np.array([start]), clip_len=clip_len, span=clip_len * stride, num_frames=num_frames)
    assert indices.shape == (1, clip_len)
    assert indices.dtype == np.int64
    assert 0 <= indices.min() <= indices.max() < num_frames


# Table 8: 32x2 and 64x1.
@pytest.mark.parametrize(("clip_len", "stride"), [(32, 2), (64, 1), (8, 8)])
def test_the_span_is_the_constant_and_the_stride_follows(clip_len, stride):
    assert ClipSpec(clip_len=clip_len).stride == stride


def test_a_clip_len_that_does_not_divide_the_span_is_refused_with_the_choices():
    message = r"^clip_len \(48\) must divide span \(64\); use 32 or 64, or set span\.$"
    with pytest.raises(ValueError, match=message):
        ClipSpec(clip_len=48)


@pytest.mark.parametrize(("clip_len", "span"), [(0, 64), (32, 0), (-1, 64)])
def test_a_clip_without_frames_is_refused(clip_len, span):
    with pytest.raises(ValueError, match=r"must be at least 1 frame"):
        ClipSpec(clip_len, span)


def test_frame_indices_check_the_clip_too():
    with pytest.raises(ValueError, match=r"clip_len \(48\) must divide span \(64\)"):
        frame_indices(np.array([0]), clip_len=48, span=64, num_frames=300)


@pytest.mark.parametrize(
    "call",
    [
        lambda n: train_start(n, span=64, uniform=0.5),
        lambda n: clips.test_starts(n, num_clips=10, span=64),
        lambda n: frame_indices(np.array([0]), clip_len=32, span=64, num_frames=n),
    ],
)
def test_an_empty_video_has_no_clips(call):
    with pytest.raises(ValueError, match=r"num_frames \(0\) must be at least 1"):
        call(0)


@pytest.mark.parametrize("uniform", [1.0, -0.1, float("nan")])
def test_a_draw_outside_the_unit_interval_is_refused(uniform):
    with pytest.raises(ValueError, match=r"uniform \(.*\) must be in \[0, 1\)"):
        train_start(300, span=64, uniform=uniform)


def test_no_test_clips_are_refused():
    with pytest.raises(ValueError, match=r"num_clips \(0\) must be at least 1"):
        clips.test_starts(300, num_clips=0, span=64)


def test_an_unknown_rule_lists_the_rules():
    with pytest.raises(ValueError, match=r"rule \('middle'\) must be one of nonlocal, linspace, dense"):
        clips.test_starts(300, num_clips=10, span=64, rule="middle")  # type: ignore[arg-type]


# frames, clips, frames per clip, the frames; parts of 10 / 4 frames: 0..2.5, 2.5..5, 5..7.5, 7.5..10
SEGMENTS = [
    (10, 1, 4, [[1, 3, 6, 8]]),  # the middles 1.25, 3.75, 6.25, 8.75
    (10, 2, 4, [[0, 3, 5, 8], [1, 4, 6, 9]]),  # a quarter and three quarters of each part
    (8, 1, 8, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    (3, 1, 6, [[0, 0, 1, 1, 2, 2]]),  # fewer frames than parts: they repeat in their order
    (1, 2, 3, [[0, 0, 0], [0, 0, 0]]),
]


@pytest.mark.parametrize(("num_frames", "num_clips", "clip_len", "frames"), SEGMENTS)
def test_segments_are_the_middles_of_equal_parts(num_frames, num_clips, clip_len, frames):
    found = clips.clip_frames(num_frames, num_clips=num_clips, clip_len=clip_len, span=clip_len, rule="segments")
    assert found.tolist() == frames


def test_training_segments_lie_in_their_parts_and_reach_every_frame():
    generator = np.random.default_rng(0)
    seen = clips.segment_frames(30, generator.random((2000, 8)))
    parts = np.arange(8) * 30 / 8
    assert (seen >= np.floor(parts)).all()
    assert (seen <= np.floor(parts + 30 / 8)).all()
    assert set(seen.ravel().tolist()) == set(range(30))
    assert (np.diff(seen, axis=1) >= 0).all()


def test_dense_starts_are_those_of_temporal_shift_module():
    for num_frames in (64, 65, 100, 301):
        wanted = np.linspace(0, max(1, 1 + num_frames - 64) - 1, num=10, dtype=int).tolist()
        assert clips.test_starts(num_frames, num_clips=10, span=64, rule="dense").tolist() == wanted


def test_no_segments_are_refused():
    with pytest.raises(ValueError, match=r"num_clips \(0\) must be at least 1"):
        clips.clip_frames(300, num_clips=0, clip_len=4, span=4, rule="segments")


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x64-10 in plain integers (Salmon et al., SC 2011, section 3.3)."""
    mask = 2**64 - 1
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            (second >> 64) ^ counter[1] ^ key[0],
            second & mask,
            (first >> 64) ^ counter[3] ^ key[1],
            first & mask,
        ]
        key = [key[0] + 0x9E3779B97F4A7C15 & mask, key[1] + 0xBB67AE8584CAA73B & mask]
    return counter


def test_the_oracle_passes_the_known_answer_of_random123():
    # github.com/DEShawResearch/random123, tests/kat_vectors
    answer = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox([0, 0, 0, 0], [0, 0]) == answer


@given(*[st.integers(0, 2**64 - 1)] * 4)
def test_draws_are_philox_blocks_of_seed_epoch_video_and_view(seed, epoch, video, view):
    words = [word for block in (1, 2) for word in philox([block, view, video, epoch], [seed, 0x636C6970])]
    draws = random_draws(seed, epoch=epoch, video=video, view=view, count=6)
    assert draws.tolist() == [(word >> 11) / 2**53 for word in words[:6]]


def test_draws_are_these_numbers_on_every_platform():
    assert random_draws(7, epoch=3, video=123_456, view=2, count=3).tolist() == [
        0.48467705820318085,
        0.5890370572798035,
        0.0016987480252890208,
    ]


def test_draws_differ_in_every_argument():
    base = {"epoch": 1, "video": 1, "view": 1}
    draws = [random_draws(1, **base, count=1)[0], random_draws(2, **base, count=1)[0]]
    draws += [random_draws(1, **{**base, name: 2}, count=1)[0] for name in base]
    assert len(set(draws)) == 5


def test_draws_are_uniform_over_videos():
    draws = np.array([random_draws(0, epoch=0, video=video, view=0, count=1)[0] for video in range(2000)])
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared, 9 degrees of freedom: one in a thousand


def test_no_draws_are_an_empty_array():
    assert random_draws(0, epoch=0, video=0, view=0, count=0).shape == (0,)


@pytest.mark.parametrize("name", ["seed", "epoch", "video", "view", "count"])
def test_a_negative_argument_of_a_draw_is_named(name):
    arguments = {"seed": 0, "epoch": 0, "video": 0, "view": 0, "count": 1, name: -1}
    with pytest.raises(ValueError, match=rf"{name} \(-1\) must be in 0\.\.2\^64-1"):
        random_draws(arguments.pop("seed"), **arguments)
