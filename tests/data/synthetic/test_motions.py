import json
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest

from vidgn.data.synthetic.motions import (
    CLASSES,
    MotionsSpec,
    draw_trajectory,
    draw_video,
    prepare_motions,
    remove_motions,
    write_video,
)

TINY = MotionsSpec(train=1, val=1, test=1, num_frames=8, side=16)


def test_there_are_twelve_classes_sorted_as_folders_are():
    assert len(CLASSES) == 12
    assert list(CLASSES) == sorted(CLASSES)


def test_a_video_is_a_function_of_seed_and_key():
    one = draw_video("zoom_in", spec=TINY, key=(0, 3))
    assert one.shape == (8, 16, 16, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, draw_video("zoom_in", spec=TINY, key=(0, 3)))
    assert (one != draw_video("zoom_in", spec=TINY, key=(1, 3))).mean() > 0.5  # another split, another look


@pytest.mark.parametrize(
    ("label", "quarters"),
    [
        ("move_left", [[[116, 105], [46, 58]], [[130, 88], [38, 58]]]),
        ("rotate_clockwise", [[[116, 105], [46, 58]], [[113, 129], [43, 71]]]),
        ("zoom_in", [[[116, 105], [46, 58]], [[126, 120], [38, 56]]]),
    ],
)
def test_another_drawing_has_another_name(label, quarters):
    """Videos drawn before are found by the name of their folder: whoever draws others must change it."""
    spec = MotionsSpec(num_frames=8, side=32)
    video = draw_video(label, spec=spec, key=(0, 3))
    found = video[[0, 7]].reshape(2, 2, 16, 2, 16, 3).mean((2, 4, 5))  # of the quarters of two frames
    assert spec.folder_name.startswith("motions1-"), "the name is new: put the new drawing's numbers here"
    np.testing.assert_allclose(found, quarters, atol=1)


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match=r"label \('walk'\) must be one of move_down"):
        draw_video("walk", spec=TINY, key=(0, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 0}, r"motions: train \(0\) must be at least 1"),
        ({"side": 81}, r"motions: side \(81\) must be even"),
    ],
)
def test_a_wrong_size_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        MotionsSpec(**change)


@pytest.mark.parametrize(
    ("label", "field", "sign"),
    [
        ("move_right", "x", 1),
        ("move_left", "x", -1),
        ("move_down", "y", 1),
        ("move_up", "y", -1),
        ("rotate_clockwise", "angle", 1),
        ("rotate_counterclockwise", "angle", -1),
    ],
)
def test_steady_motions_change_one_value_of_the_pose_in_one_direction(label, field, sign):
    for number in range(20):
        pose = draw_trajectory(np.random.default_rng(number), label, 64)
        assert (np.sign(np.diff(getattr(pose, field))) == sign).all()
        others = {"x", "y", "angle", "scale"} - {field}
        assert all(np.ptp(getattr(pose, other)) == 0 for other in others)


@pytest.mark.parametrize(("label", "sign"), [("zoom_in", 1), ("zoom_out", -1)])
def test_zooming_is_a_saw_tooth_of_the_scale(label, sign):
    steps = np.diff(np.log(draw_trajectory(np.random.default_rng(0), label, 64).scale))
    assert (np.sign(steps) == sign).mean() > 0.95  # all but the jumps
    assert (np.sign(steps) == -sign).any()


@pytest.mark.parametrize(("label", "sign"), [("orbit_clockwise", 1), ("orbit_counterclockwise", -1)])
def test_orbits_turn_one_way_on_the_screen(label, sign):
    pose = draw_trajectory(np.random.default_rng(0), label, 64)
    dx, dy = np.diff(pose.x), np.diff(pose.y)
    turn = dx[:-1] * dy[1:] - dy[:-1] * dx[1:]  # positive: clockwise, since y grows downwards
    assert (np.sign(turn) == sign).all()


@pytest.mark.slow
@pytest.mark.parametrize("field", ["x", "y", "angle", "scale"])
def test_the_pose_of_a_single_frame_has_one_distribution_in_every_class(field):
    """Deciles of the pose at one frame, modulo what the eye cannot see, agree between the classes."""
    deciles = []
    for label in CLASSES:
        poses = [draw_trajectory(np.random.default_rng(k), label, 40) for k in range(1500)]
        values = np.array([getattr(pose, field)[33] for pose in poses])
        # The layer itself is placed at random on its period, so place and angle count modulo one turn.
        values = values % 1 if field in "xy" else values % (2 * np.pi) if field == "angle" else np.log(values)
        deciles.append(np.quantile(values, np.linspace(0.1, 0.9, 9)))
    spread = np.ptp(np.stack(deciles), axis=0) / (np.stack(deciles).max() - np.stack(deciles).min())
    assert spread.max() < 0.12  # 1500 draws: three standard errors of a decile are 0.04 of the range, each way


@pytest.mark.slow
def test_the_cache_is_whole_or_not_there_and_is_continued(tmp_path, monkeypatch):
    spec = MotionsSpec(train=6, val=1, test=1, num_frames=8, side=16)  # 96 videos, far more than are written ahead
    calls = []

    def stop_after_ten(done, total):
        calls.append((done, total))
        if done == 10:
            raise KeyboardInterrupt("at the tenth")

    with pytest.raises(KeyboardInterrupt, match="at the tenth"):
        prepare_motions(tmp_path, spec=spec, num_workers=1, progress=stop_after_ten)
    assert not (tmp_path / spec.folder_name).exists()
    resumed = []
    folder = prepare_motions(
        tmp_path, spec=spec, num_workers=1, progress=lambda done, total: resumed.append((done, total))
    )
    assert resumed[0][0] > 8  # the first ones were kept
    assert resumed[-1] == (96, 96)
    assert sorted(path.name for path in (folder / "train").iterdir()) == list(CLASSES)
    assert len(list(folder.glob("*/*/*.mp4"))) == 96
    assert not list(tmp_path.rglob("*.part"))
    assert json.loads((folder / "spec.json").read_text())["side"] == 16
    again = []
    assert prepare_motions(tmp_path, spec=spec, progress=lambda *_: again.append(1)) == folder
    assert not again
    remove_motions(tmp_path, spec=spec)
    assert not folder.exists()


def test_two_runs_at_once_write_the_set_once(tmp_path):
    with ThreadPool(2) as pool:
        one, other = pool.map(lambda cache: prepare_motions(cache, spec=TINY, num_workers=1), [tmp_path] * 2)
    assert one == other
    assert len(list((tmp_path / TINY.folder_name).glob("*/*/0000.mp4"))) == 36


def test_a_written_video_has_the_frames_it_was_given(tmp_path):
    import av

    frames = draw_video("move_left", spec=MotionsSpec(num_frames=12, side=64), key=(0, 0))
    write_video(tmp_path / "a.mp4", frames)
    with av.open(str(tmp_path / "a.mp4")) as container:
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 8  # lossy, halved colour


@pytest.mark.slow
def test_motion_tells_the_class_and_a_single_frame_does_not():
    """One linear classifier, on what a frame shows and on how the frame's quarters shift.

    Shifts are measured by phase correlation, so nothing here knows how the videos are drawn. Chance is 8.3 %;
    17 % is chance and three standard errors of 120 videos.
    """
    still, moving, labels = [], [], []
    for number in range(30):
        for label in range(12):
            video = draw_video(CLASSES[label], spec=MotionsSpec(num_frames=64), key=(0, 1000 * label + number))
            still.append(frame_features(video[32]))
            moving.append(shift_features(video.mean(-1)))
            labels.append(label)
    still, moving, labels = np.stack(still), np.stack(moving), np.array(labels)
    assert linear_accuracy(still, labels, num_train=240) < 0.17
    assert linear_accuracy(moving, labels, num_train=240) > 0.6


def frame_features(frame):
    """Thumbnail, histogram of colours, histogram of edge directions."""
    frame = frame.astype(np.float64) / 255
    thumbnail = frame.reshape(8, 10, 8, 10, 3).mean((1, 3)).ravel()
    colours = np.concatenate([np.histogram(frame[..., c], 8, (0, 1))[0] / 6400 for c in range(3)])
    dy, dx = np.gradient(frame.mean(-1))
    edges = np.histogram(np.arctan2(dy, dx), 16, (-np.pi, np.pi), weights=np.hypot(dx, dy))[0] / 100
    return np.concatenate([thumbnail, colours, edges])


def shift_features(video):
    """Per quarter of the frame: mean and spread of the shift from frame to frame, and its sense of turning."""
    features = []
    for top in (0, 40):
        for left in (0, 40):
            part = video[::2, top : top + 40, left : left + 40]
            spectra = np.fft.fft2((part - part.mean((1, 2), keepdims=True)) * np.hanning(40)[:, None] * np.hanning(40))
            cross = spectra[1:] * spectra[:-1].conj()
            peaks = np.fft.ifft2(cross / (np.abs(cross) + 1e-3)).real.reshape(len(cross), -1).argmax(1)
            dy, dx = ((at + 20) % 40 - 20 for at in divmod(peaks, 40))
            dx, dy = np.clip(dx, -5, 5), np.clip(dy, -5, 5)
            turning = (dx[:-1] * dy[1:] - dy[:-1] * dx[1:]).mean()
            features += [dx.mean(), dy.mean(), dx.std(), dy.std(), turning]
    return np.array(features)


def linear_accuracy(features, labels, *, num_train):
    """Accuracy on the rest of ridge regression onto one-hot labels, fitted to the first `num_train` rows."""
    features = (features - features[:num_train].mean(0)) / (features[:num_train].std(0) + 1e-9)
    features = np.hstack([features, np.ones((len(features), 1))])
    x, y = features[:num_train], np.eye(12)[labels[:num_train]]
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
    return ((features[num_train:] @ weights).argmax(1) == labels[num_train:]).mean()
