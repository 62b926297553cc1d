import numpy as np
import pytest
import torch

from experiments.clips import ClipForm, MemoryClips, cut_test_clips
from experiments.videos import CLASSES, SHIVERS, Videos, VideoSpec, cached, draw_shiver, draw_video, make_videos

SMALL = VideoSpec(classes=("move_left", "shiver_slowly_vertically"), train=2, val=1, test=1, num_frames=80)


def test_equal_keys_give_equal_pixels_and_no_two_seeds_or_splits_share_a_video():
    one = make_videos(SMALL, seed=1, split="train")
    assert one.pixels.shape == (4, 3, 80, 36, 36)
    assert one.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(one.pixels, make_videos(SMALL, seed=1, split="train").pixels)
    others = [make_videos(SMALL, seed=2, split="train").pixels[0], make_videos(SMALL, seed=1, split="val").pixels[0]]
    assert not any(torch.equal(one.pixels[0], other) for other in others)


def turning(swing):
    """2 cos(2 pi f) of a swing of f cycles per frame, by s[k+1] + s[k-1] = 2 cos(2 pi f) s[k]."""
    return float(np.median((swing[2:] + swing[:-2]) / swing[1:-1]))


@pytest.mark.parametrize(("axis", "place"), [("horizontally", 0), ("vertically", 1)])
def test_shivers_differ_at_every_frame_and_look_alike_at_every_second_one(axis, place):
    rest = np.random.default_rng(3).random(2)[place]  # the layer's place is what is drawn first
    slow, quick = (
        np.array(draw_shiver(np.random.default_rng(3), f"shiver_{pace}_{axis}", 32)[place]) - rest
        for pace in ("slowly", "quickly")
    )
    assert 2 * np.cos(2 * np.pi * 0.23) < turning(slow) < 2 * np.cos(2 * np.pi * 0.14)
    assert turning(quick) == pytest.approx(-turning(slow))
    assert turning(quick[::2]) == pytest.approx(turning(slow[::2]))


def test_a_shiver_stays_in_place_and_only_moves_along_its_axis():
    poses = draw_shiver(np.random.default_rng(0), "shiver_quickly_horizontally", 64)
    assert np.ptp(poses.y) == 0
    assert np.ptp(poses.angle) == 0
    assert 0.11 < np.ptp(poses.x) < 0.21  # twice an amplitude of 0.06 to 0.1


@pytest.mark.slow
def test_noise_and_contrast_are_those_of_the_spec():
    still = VideoSpec(num_frames=40, contrast=0.0, noise=10.0)
    pixels = draw_video("move_up", spec=still, key=(0, 0, 0)).astype(float)
    assert pixels.mean() == pytest.approx(128, abs=0.2)
    assert pixels.std() == pytest.approx(10.0, abs=0.2)


def test_there_are_sixteen_classes_four_of_them_shivers():
    assert len(CLASSES) == 16
    assert CLASSES[-4:] == SHIVERS


def test_videos_are_made_once(tmp_path):
    def make():
        return make_videos(SMALL, seed=0, split="val")

    first = cached(tmp_path / "val.pt", make)
    again = cached(tmp_path / "val.pt", lambda: pytest.fail("made again"))
    assert torch.equal(first.pixels, again.pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["val.pt"]


def counted():
    """One video whose pixels are the number of their frame."""
    frames = torch.arange(80, dtype=torch.uint8).view(1, 1, 80, 1, 1).expand(1, 3, 80, 36, 36)
    return Videos(frames.contiguous(), torch.tensor([5]))


def test_a_training_clip_takes_every_second_frame_of_64():
    clips = MemoryClips(counted(), form=ClipForm(32), seed=0, fixed=False)
    starts = set()
    for epoch in range(30):
        clip, label, video = clips[epoch, 0][:3]
        frames = clip[0, 0, :, 0, 0].tolist()
        assert clip.shape == (1, 3, 32, 32, 32)
        assert frames == list(range(frames[0], frames[0] + 64, 2))
        assert (label, video) == (5, 0)
        starts.add(frames[0])
    assert min(starts) >= 0
    assert max(starts) <= 16
    assert len(starts) > 8


def test_validation_clips_are_the_same_in_every_epoch():
    clips = MemoryClips(counted(), form=ClipForm(32), seed=0, fixed=True)
    assert torch.equal(clips[0, 0].clips, clips[7, 0].clips)


def test_source_clips_draw_their_stride():
    clips = MemoryClips(counted(), form=ClipForm(32, (32, 64)), seed=0, fixed=False)
    strides = {int(torch.diff(clips[epoch, 0].clips[0, 0, :2, 0, 0].int())) for epoch in range(30)}
    assert strides == {1, 2}


def test_test_clips_begin_evenly_and_end_with_the_video():
    clips = cut_test_clips(counted(), form=ClipForm(64), num_clips=3)
    assert clips.shape == (1, 3, 3, 64, 32, 32)
    assert clips[0, :, 0, 0, 0, 0].tolist() == [0, 8, 16]
    assert clips[0, :, 0, -1, 0, 0].tolist() == [63, 71, 79]
