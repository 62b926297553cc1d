import numpy as np
import pytest

from vidgn.data.images.dataset import read_picture
from vidgn.data.spec import DataSpec
from vidgn.data.splits import mirror_changes, read_manifests
from vidgn.data.synthetic.exposures import CLASSES, ExposuresSpec, draw_picture, prepare_exposures

TINY = ExposuresSpec(train=2, val=1, test=1, side=32)


def test_classes_have_an_axis_and_no_direction():
    assert CLASSES == ("horizontally", "still", "turned", "vertically", "zoomed")
    assert mirror_changes(CLASSES) == []


def test_a_picture_is_a_function_of_its_key():
    picture = draw_picture("turned", spec=TINY, key=(0, 5))
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    np.testing.assert_array_equal(picture, draw_picture("turned", spec=TINY, key=(0, 5)))
    for key in ((1, 5), (0, 6)):
        assert not np.array_equal(picture, draw_picture("turned", spec=TINY, key=key))
    for label in set(CLASSES) - {"turned"}:
        assert not np.array_equal(picture, draw_picture(label, spec=TINY, key=(0, 5)))


def test_a_still_picture_is_a_frame_of_light_shapes_over_a_dark_background():
    """As in motions: a layer of 100 to 255 over 0 to 80; what moves is mixed from both."""
    still, turned = (
        np.stack([draw_picture(label, spec=TINY, key=(0, number)) for number in range(4)])
        for label in ("still", "turned")
    )
    mixed = [((pictures.min(-1) < 99) & (pictures.max(-1) > 81)).mean() for pictures in (still, turned)]
    assert mixed[0] == 0
    assert mixed[1] > 0.3


def test_a_blur_lies_along_the_way():
    """Neighbours along the way differ less than neighbours across it."""
    spec = ExposuresSpec(side=64)

    def down_over_across(label):
        pictures = np.stack([draw_picture(label, spec=spec, key=(0, number)) for number in range(16)]).astype(float)
        down, across = (np.abs(np.diff(pictures, axis=axis)).mean() for axis in (1, 2))
        return down / across

    assert down_over_across("horizontally") > 1.15
    assert down_over_across("vertically") < 0.85
    assert 0.85 < down_over_across("still") < 1.15


@pytest.mark.slow
def test_the_data_set_is_written_once_and_read_as_folders(tmp_path):
    seen = []
    folder = prepare_exposures(tmp_path, spec=TINY, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20, 20)
    assert len(list(folder.rglob("*.png"))) == 20
    assert not list(tmp_path.glob("*.part"))
    stamp = (folder / "spec.json").stat().st_mtime_ns
    assert prepare_exposures(tmp_path, spec=TINY) == folder
    assert (folder / "spec.json").stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(
        read_picture(str(folder / "val" / "still" / "0000.png")), draw_picture("still", spec=TINY, key=(1, 1))
    )
    found = read_manifests(DataSpec("exposures", root=str(tmp_path), train=1, val=1, test=1))
    assert {split: len(manifest) for split, manifest in found.items()} == {"train": 5, "val": 5, "test": 5}
    assert found["test"].video_id(0).startswith("test/")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"label \('left'\) must be one of horizontally, still, turned, vertically"):
        draw_picture("left", spec=TINY, key=(0, 0))
    with pytest.raises(ValueError, match=r"exposures: train \(0\) must be at least 1; leave it out for the default"):
        ExposuresSpec(train=0)
