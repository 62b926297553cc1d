import numpy as np
import pytest

from vidgn.data.find import DataSpec, read_manifests
from vidgn.data.pictures import read_picture
from vidgn.data.shapes import CLASSES, ShapesSpec, draw_picture, prepare_shapes

TINY = ShapesSpec(train=2, val=1, test=1, side=32)


def test_classes_are_the_shapes_of_motions():
    assert CLASSES == ("diamond", "disc", "square", "triangle")


def test_a_picture_is_a_function_of_its_key():
    picture = draw_picture("disc", spec=TINY, key=(0, 5))
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    np.testing.assert_array_equal(picture, draw_picture("disc", spec=TINY, key=(0, 5)))
    for key in ((1, 5), (0, 6)):
        assert not np.array_equal(picture, draw_picture("disc", spec=TINY, key=key))
    assert not np.array_equal(picture, draw_picture("square", spec=TINY, key=(0, 5)))


def test_shapes_are_light_and_the_background_is_dark():
    """As in motions: a layer of 100 to 255 over 0 to 80, and both in most pictures."""
    pictures = np.stack([draw_picture(label, spec=TINY, key=(0, 7)) for label in CLASSES])
    light = (pictures.min(-1) >= 99).mean()
    dark = (pictures.max(-1) <= 81).mean()
    assert light + dark > 0.999
    assert 0.15 < light < 0.85


def test_the_look_is_that_of_the_class():
    """A disc has no corners: with the same key its cover differs from a square's by the corners alone."""
    disc, square = (
        draw_picture(label, spec=ShapesSpec(side=64), key=(0, 3)).max(-1) > 90 for label in ("disc", "square")
    )
    assert disc.any()
    assert 0.02 < (disc != square).mean() < 0.3


def test_the_data_set_is_written_once_and_read_as_folders(tmp_path):
    seen = []
    folder = prepare_shapes(tmp_path, spec=TINY, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (16, 16)
    assert len(list(folder.rglob("*.png"))) == 16
    assert not list(tmp_path.glob("*.part"))
    stamp = (folder / "spec.json").stat().st_mtime_ns
    assert prepare_shapes(tmp_path, spec=TINY) == folder
    assert (folder / "spec.json").stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(
        read_picture(str(folder / "val" / "disc" / "0000.png")), draw_picture("disc", spec=TINY, key=(1, 1))
    )
    found = read_manifests(DataSpec("shapes", root=str(tmp_path), train=1, val=1, test=1))
    assert {split: len(manifest) for split, manifest in found.items()} == {"train": 4, "val": 4, "test": 4}
    assert found["test"].video_id(0).startswith("test/")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"label \('circle'\) must be one of diamond, disc, square, triangle"):
        draw_picture("circle", spec=TINY, key=(0, 0))
    with pytest.raises(ValueError, match=r"shapes: train \(0\) must be at least 1; leave it out for the default"):
        ShapesSpec(train=0)
