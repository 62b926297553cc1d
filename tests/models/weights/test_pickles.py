import io
import os
import pickle
import pickletools

import numpy as np
import pytest

from vidgn.models.weights.pickles import read_pickle

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "float64": np.linspace(0, 1, 4),
    "int64": np.array([[1], [-2]]),
    "bool": np.array([True, False]),
    "byte order": np.arange(3, dtype=">f4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.zeros((0, 4), np.float32),
    "no axes": np.array(2.5),
}


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol_come_back(protocol, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(ARRAYS, protocol=protocol))
    found = read_pickle(path)
    assert list(found) == list(ARRAYS)
    same(found, ARRAYS)


def test_arrays_of_python_2_come_back(sources, tmp_path):
    path = sources.write_python2_pickle({"blobs": ARRAYS}, tmp_path / "a.pkl")
    names = [name for op, name, _ in pickletools.genops(path.read_bytes()) if op.name == "GLOBAL"]
    assert "numpy.core.multiarray _reconstruct" in names
    assert "_codecs encode" not in names  # Python 3's way around bytes
    same(read_pickle(path), ARRAYS)


def test_numbers_and_words_stay_as_they_are(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"lr": 0.1, "epoch": 3, "scalar": np.float32(1.5), "name": "net"}))
    assert read_pickle(path) == {"lr": 0.1, "epoch": 3, "scalar": 1.5, "name": "net"}


def test_an_array_can_be_written_to(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"w": np.zeros(3)}))
    array = read_pickle(path)["w"]
    array[0] = 1
    assert array.tolist() == [1, 0, 0]
    assert read_pickle(path)["w"].tolist() == [0, 0, 0]


class Runs:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (os.mkdir, "folder", "mkdir"),  # the system
        (exec, "folder.mkdir()", "exec"),  # a builtin
        (getattr, "folder", "getattr"),
        (np.load, "folder", "load"),  # numpy, but no array
        (pickle.loads, "folder", "loads"),
        (np.frombuffer, "folder", "frombuffer"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_pickle_is_refused_and_does_not_run(function, args, named, protocol, tmp_path):
    target = tmp_path / "made"
    args = str(target) if args == "folder" else f"import pathlib; pathlib.Path({str(target)!r}).mkdir()"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": Runs(function, args)}, protocol=protocol))
    with pytest.raises(ValueError, match=rf"evil.pkl cannot be read .* \(it names .*\.{named}, which is not part"):
        read_pickle(path)
    assert not target.exists()


def test_the_refused_code_would_have_run(tmp_path):
    target = tmp_path / "made"
    pickle.loads(pickle.dumps(Runs(os.mkdir, str(target))))
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": np.array([{}, None], object)}, "it has an array of 'O8', which is not a number"),
        ({"w": np.array(["text"])}, "it has an array of 'U4', which is not a number"),
        ({"w": np.array([1 + 2j])}, "it has an array of 'c16'"),
        ([np.zeros(1)], "it holds a list, not a dictionary"),
        ({"w": {1, 2}}, "it names .*set, which is not part of an array"),
    ],
)
def test_what_is_no_dictionary_of_numbers_is_refused(content, message, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=message):
        read_pickle(path)


def test_an_array_of_the_wrong_size_is_refused(tmp_path):
    whole = pickle.dumps({"w": np.zeros((2, 3), np.float32)}, protocol=3)
    path = tmp_path / "a.pkl"
    path.write_bytes(whole.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"))  # the shape
    with pytest.raises(ValueError, match=r"an array of \(2, 4\) has 24 bytes"):
        read_pickle(path)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(ARRAYS)[:-20]])
def test_a_damaged_pickle_is_refused(content, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.pkl cannot be read as a dictionary of numeric arrays"):
        read_pickle(path)


def test_state_cannot_be_given_to_what_the_reader_knows(tmp_path):
    file = io.BytesIO()  # numpy.dtype's place in the reader, with an attribute set on it
    file.write(b"\x80\x02cnumpy\ndtype\n(N}X\x03\x00\x00\x00newK\x01s\x86t\x85b.")
    path = tmp_path / "a.pkl"
    path.write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=r"cannot be read as a dictionary"):
        read_pickle(path)
