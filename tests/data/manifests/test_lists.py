"""Path-label lists: every dialect and every fault has a right answer or a right error."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgn.data.manifests.manifest import Manifest

CLASSES = (*(f"class {i}" for i in range(10)), "abseiling", "riding a bike")
HEADER = "label,youtube_id,time_start,time_end,split"


def read(folder: Path, data: bytes | str, **options: object) -> Manifest:
    file = folder / "list.csv"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    options = options or {"classes": CLASSES}
    return Manifest.from_list(file, root=folder, **options)  # type: ignore[arg-type]


def rows(manifest: Manifest) -> list[tuple[str, int]]:
    return [(manifest.video_id(i), manifest.label(i)) for i in range(len(manifest))]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("a.mp4 3\nb.mp4 4\n", [("a.mp4", 3), ("b.mp4", 4)]),
        ("a.mp4 3", [("a.mp4", 3)]),  # no newline at the end
        (b"\xef\xbb\xbfa.mp4 3\n", [("a.mp4", 3)]),  # BOM
        ("a.mp4 3\r\nb.mp4 4\r\n", [("a.mp4", 3), ("b.mp4", 4)]),
        ("a.mp4,3\n", [("a.mp4", 3)]),
        ("a.mp4, 3\n", [("a.mp4", 3)]),
        ("a.mp4\t3\n", [("a.mp4", 3)]),
        ("a.mp4   3  \n", [("a.mp4", 3)]),
        ('"a,b.mp4",3\n', [("a,b.mp4", 3)]),
        ('"a ""x"".mp4","3"\n', [('a "x".mp4', 3)]),
        ("my clip.mp4 3\n", [("my clip.mp4", 3)]),
        ('"my clip.mp4" 3\n', [("my clip.mp4", 3)]),
        ("a,b.mp4 3\nc.mp4 4\n", [("a,b.mp4", 3), ("c.mp4", 4)]),  # a comma in the path of a space list
        ("a\tb.mp4 3\n", [("a\tb.mp4", 3)]),
        ("path label\na.mp4 3\n", [("a.mp4", 3)]),  # header
        ("video_path,label\na.mp4,3\n", [("a.mp4", 3)]),
        ("\na.mp4 3\n\n  \nb.mp4 4\n\n", [("a.mp4", 3), ("b.mp4", 4)]),
        ("a.mp4 abseiling\n", [("a.mp4", 10)]),
        ("my a.mp4 riding a bike\n", [("my a.mp4", 11)]),
        ('"my a.mp4" riding a bike\n', [("my a.mp4", 11)]),
        ("a.mp4,riding a bike\nb.mp4,3\n", [("a.mp4", 11), ("b.mp4", 3)]),
        ("a\u2028b.mp4 3\n", [("a\u2028b.mp4", 3)]),  # lines end in \n alone
        ("a\x0cb.mp4 3\nc\x85d.mp4 4\n", [("a\x0cb.mp4", 3), ("c\x85d.mp4", 4)]),
        ("./a/../b//c.mp4 3\n", [("b/c.mp4", 3)]),
        ("a..b.mp4 3\n", [("a..b.mp4", 3)]),
        (".hidden/a.mp4 3\n", [(".hidden/a.mp4", 3)]),
        ("日本/ä.mp4 3\n", [("日本/ä.mp4", 3)]),
        ("a.mp4 007\n", [("a.mp4", 7)]),
        ("http://host/a.mp4 3\n", [("http:/host/a.mp4", 3)]),  # a name below the root, not an address
    ],
)
def test_a_list_is_read_in_every_dialect(tmp_path: Path, data: bytes | str, expected: list[tuple[str, int]]) -> None:
    manifest = read(tmp_path, data)
    assert rows(manifest) == expected
    assert manifest.classes == CLASSES
    assert manifest.notes == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", r"0 videos in .*list\.csv; a manifest needs at least one row"),
        ("\n", r"0 videos in"),
        ("path,label\n", r"0 videos in"),  # a header alone
        ("a.mp4\nb.mp4 4\n", r"1 row is wrong:\n  row 1: no label in 'a\.mp4'; a row is path and label"),
        ("my clip.mp4\n", r"row 1: no label in 'my clip\.mp4'"),
        ("a.mp4,\n", r"row 1: no label in 'a\.mp4,'"),
        ("3\n", r"row 1: no label in '3'"),
        ("a.mp4 99999\n", r"row 1: label 99999 is not in 0\.\.11"),
        ("a.mp4 99999999999999999999999\n", r"row 1: label 9{23} is not in 0\.\.11"),
        ("a.mp4 -7\n", r"row 1: label -7 is not in 0\.\.11"),
        ("a.mp4 3.0\n", r"row 1: label '3\.0' is neither an integer nor one of the 12 class names"),
        ("a.mp4 1_0\n", r"row 1: label '1_0' is neither an integer"),
        ("a.mp4 absailing\n", r"row 1: label 'absailing' is neither .*; did you mean 'abseiling'\?"),
        ("a.mp4 10 3\n", r"row 1: 3 columns in 'a\.mp4 10 3'; a row is path and label"),
        ("a.mp4,10,3\n", r"row 1: 3 columns in"),
        ('"a.mp4,3\n', r"row 1: the quotes in '\"a\.mp4,3' do not match"),
        ("a.mp4 3\na.mp4 4\n", r"row 2: 'a\.mp4' has label 4 here and 3 in row 1"),
        (
            "../../../etc/passwd 3\n",
            r"row 1: the path '\.\./.*' leaves the root .*; set root to a folder above",
        ),
        ("a/../../b.mp4 3\n", r"row 1: the path 'a/\.\./\.\./b\.mp4' leaves the root"),
        ("/etc/passwd 3\n", r"row 1: the path '/etc/passwd' leaves the root .*allow_outside=True"),
        ("//etc/passwd 3\n", r"row 1: the path '//etc/passwd' leaves the root"),
        (". 3\n", r"row 1: the path '\.' names no file"),
        ('"" 3\n', r"row 1: no label"),
        ('"",3\n', r"row 1: the path '' names no file"),
        (b"a\x00.mp4 3\n", r"row 1: .* holds a NUL byte"),
        (b"a.mp4 3\rb.mp4 4\r", r"row 1: .* holds a carriage return; lines must end in"),
        (b"b.mp4 1\ncaf\xe9.mp4 3\n", r"row 2: not UTF-8 \(byte 0xe9 at column 4\): b'caf\\xe9\.mp4 3'"),
        ("\ufeffa.mp4 3\n".encode("utf-16-le"), r"is UTF-16; a list must be UTF-8: save it as UTF-8 text"),
        ("label,path\n3,a.mp4\n", r"the columns are 'label,path'; the path must come first"),
        (
            f"{HEADER}\nabseiling,-3B32lodo2M,59,69,train\n",
            r"is a Kinetics annotation file .*from_kinetics_csv",
        ),
    ],
)
def test_a_wrong_list_says_what_is_wrong_and_where(tmp_path: Path, data: bytes | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, data)


def test_all_wrong_rows_are_listed_at_once_in_order(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 rows are wrong") as error:
        read(tmp_path, b"a.mp4 3\na.mp4 5\nb.mp4 -1\n\nc\xff.mp4 3\n/etc/passwd 3\n")
    assert [line.split(":")[0].strip() for line in str(error.value).split("\n")[1:]] == [
        "row 2",
        "row 3",
        "row 5",
        "row 6",
    ]


def test_after_fifty_errors_the_rest_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"60 rows are wrong:(?s:.*)row 50: no label(?s:.*)\n  and 10 more$"):
        read(tmp_path, "a.mp4\n" * 60)


def test_rows_that_repeat_are_kept_and_noted(tmp_path: Path) -> None:
    manifest = read(tmp_path, "a.mp4 3\nb.mp4 4\n./a.mp4 3\na.mp4 3\n")
    assert rows(manifest) == [("a.mp4", 3), ("b.mp4", 4), ("a.mp4", 3), ("a.mp4", 3)]
    assert manifest.notes == ("2 rows repeat an earlier row (row 3 repeats row 1)",)


def test_absolute_paths_below_the_root_become_relative(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{tmp_path}/sub/a.mp4 0\n/elsewhere/b.mp4 0\n../c.mp4 0\n")
    options = {"root": tmp_path, "num_classes": 1}
    with pytest.raises(ValueError, match="2 rows are wrong"):
        Manifest.from_list(tmp_path / "list.txt", **options)  # type: ignore[arg-type]
    manifest = Manifest.from_list(tmp_path / "list.txt", **options, allow_outside=True)  # type: ignore[arg-type]
    assert [manifest.path(i) for i in range(3)] == [
        f"{tmp_path}/sub/a.mp4",
        "/elsewhere/b.mp4",
        f"{tmp_path}/../c.mp4",
    ]


def test_labels_without_class_names_are_their_own_names(tmp_path: Path) -> None:
    assert read(tmp_path, "a.mp4 1\nb.mp4 0\n", num_classes=None).classes == ("0", "1")
    assert read(tmp_path, "a.mp4 1\n", num_classes=3).classes == ("0", "1", "2")
    with pytest.raises(ValueError, match=r"label 'abseiling' is not an integer; give data\.classes"):
        read(tmp_path, "a.mp4 abseiling\n", num_classes=3)


def test_gaps_in_labels_without_a_number_of_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"go up to 7, but 6 of the classes 0\.\.7 have no row; give data\.classes"):
        read(tmp_path, "a.mp4 7\nb.mp4 0\n", num_classes=None)


def test_a_label_that_is_an_index_and_another_name_is_refused(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "a.mp4 10\n", classes=["10", "20"])) == [("a.mp4", 0)]
    with pytest.raises(ValueError, match="label 1 is the name of class 0 and the index of another class"):
        read(tmp_path, "a.mp4 1\n", classes=["1", "0"])


def test_only_one_source_of_classes_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes and num_classes say the same; give one of them"):
        read(tmp_path, "a.mp4 0\n", classes=["x"], num_classes=1)


def test_a_list_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*/nothing\.txt"):
        Manifest.from_list(tmp_path / "nothing.txt", root=tmp_path)
    with pytest.raises(ValueError, match="is not a regular file; give a text file"):
        Manifest.from_list("/dev/zero", root=tmp_path)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n/"), min_size=1), min_size=1),
    separator=st.sampled_from(["\t", ","]),
)
def test_any_quoted_name_comes_back(tmp_path_factory: pytest.TempPathFactory, names: list[str], separator: str) -> None:
    names = [f"{i}{name}.mp4" for i, name in enumerate(names)]
    text = "".join('"' + name.replace('"', '""') + f'"{separator}{i % 3}\n' for i, name in enumerate(names))
    manifest = read(tmp_path_factory.mktemp("any"), text, num_classes=3)
    assert rows(manifest) == [(name.strip(), i % 3) for i, name in enumerate(names)]


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_blocks_and_single_rows_are_read_alike(tmp_path: Path, separator: str) -> None:
    """Rows are read in blocks of a megabyte; one odd row sends its block through the reading row by row."""
    lines = [f"folder/{i:06d}_000010_000020.mp4{separator}{i % 400}" for i in range(40_000)]  # 1.4 MB
    plain = read(tmp_path, "\n".join(lines), num_classes=400)
    odd = read(tmp_path, "\n".join(["./" + lines[0], *lines[1:-1], lines[-1] + " "]), num_classes=400)
    assert plain.names.tobytes() == odd.names.tobytes()
    assert plain.offsets.tolist() == odd.offsets.tolist()
    assert plain.labels.tolist() == odd.labels.tolist() == [i % 400 for i in range(40_000)]
    assert plain.video_id(39_999) == "folder/039999_000010_000020.mp4"
    with pytest.raises(ValueError, match="row 40001: no label"):
        read(tmp_path, "\n".join([*lines, "x.mp4"]), num_classes=400)


class TestClassesFile:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("names.txt", "riding a bike\nabseiling\n"),
            ("names.csv", "id,name\n1,abseiling\n0,riding a bike\n"),
            ("names.json", '["riding a bike", "abseiling"]'),
            # PySlowFast's classids.json
            ("classids.json", '{"\\"abseiling\\"": 1, "\\"riding a bike\\"": 0}'),
        ],
    )
    def test_names_are_read_in_the_order_of_their_indices(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        manifest = read(tmp_path, "a.mp4 abseiling\nb.mp4 0\n", classes_file=tmp_path / name)
        assert manifest.classes == ("riding a bike", "abseiling")
        assert rows(manifest) == [("a.mp4", 1), ("b.mp4", 0)]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("c.txt", b"", "there is no class name; give at least one"),
            ("c.txt", b"a\nb\na\n", r"class names must differ, but \['a'\] stand more than once"),
            ("c.txt", b"caf\xe9\n", "is not UTF-8 text"),
            ("c.json", b"{", "is not json"),
            ("c.json", b"3", "must hold a list of names or an object"),
            ("c.json", b'["a", ""]', "class 1 has no name"),
            (
                "c.json",
                b'{"a": 0, "b": 2}',
                r"2 classes must have the distinct names and indices 0\.\.1; .*\[1\]",
            ),
            ("c.json", b'{"a": 0, "b": 0}', r"2 classes must have the distinct names"),
            ("c.csv", b"id,name\n0,a,b\n", "each row must be id,name; quote a name that holds a comma"),
            ("c.csv", b"id,name\n0,a\n1,a\n", "2 classes must have the distinct names"),
        ],
    )
    def test_a_wrong_file_says_what_is_wrong(self, tmp_path: Path, name: str, data: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=message):
            read(tmp_path, "a.mp4 0\n", classes_file=tmp_path / name)


LIKELY = st.sampled_from(
    ["a.mp4", "3", " ", ",", "\t", '"', "\n", "\r\n", "..", "/", "\ufeff", "\0", "abseiling", "-1"]
)


@settings(max_examples=150, deadline=None)
@given(data=st.one_of(st.binary(), st.lists(LIKELY).map(lambda parts: "".join(parts).encode())))
def test_any_bytes_give_rows_inside_the_root_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    message, found = "", []
    try:
        found = rows(read(folder, data))
    except ValueError as err:
        message = str(err)
    assert bool(found) != (f"{folder}/list.csv" in message)
    assert all(0 <= label < len(CLASSES) for _, label in found)
    assert all(not name.startswith(("/", "../")) and "\0" not in name for name, _ in found)
