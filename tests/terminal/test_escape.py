"""Names of classes and files are data at every door: terminal, picture, HTML, CSV."""

import io
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from vidgn.checkpoints.description import Description
from vidgn.cli.main import main
from vidgn.inference.model_card import model_card
from vidgn.inference.overlay import draw_label
from vidgn.inference.predict import Answer
from vidgn.inference.predict_print import _write_text
from vidgn.objective.targets import Targets
from vidgn.report.figures import confusion_matrix, worst_classes
from vidgn.report.page import Section, page, paragraph
from vidgn.report.theme import as_png
from vidgn.terminal.escape import escaped, plot_label, printable

CLEAR, TITLE, CLIPBOARD = "\x1b[2J", "\x1b]0;owned\x07", "\x1b]52;c;ZXZpbA==\x07"
NASTY = [CLEAR, TITLE, CLIPBOARD, "\x9b31m", "a\rb", "a\nerror: b", "\u202egpm.exe", "\u2028", "a\x00b", "\udc80.mp4"]


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_a_name_is_one_line_that_no_terminal_obeys(name):
    line = printable(name)
    assert line.isprintable()
    assert line.encode("utf-8")
    assert "\\" in line


def test_ordinary_names_stay_as_they_are():
    for name in ("run", "Größe 3 µm", "跑步", "a$b_{x}^2", "with 'quotes' [brackets]"):
        assert printable(name) == plot_label(name) == name


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_what_a_command_prints_passes_any_terminal(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    out = escaped(stream)
    print("".join(NASTY), "跑", "tab\tkept", file=out)
    out.write("row\r\n")
    out.flush()
    text = raw.getvalue().decode(encoding)
    assert not set(text) & {"\x1b", "\x9b", "\x07", "\x00", "\u202e", "\u2028"}
    assert "\\x1b[2J" in text
    assert text.endswith("tab\tkept\nrow\r\n")
    assert out.encoding == encoding


def test_an_error_that_quotes_a_name_is_escaped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["report", f"none{CLEAR}"])
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "none\\x1b[2J is not a folder" in err


def test_predictions_are_printed_without_escapes():
    class Model:
        classes = (CLEAR + "run", "jump\nerror: all is lost")
        description = SimpleNamespace(targets=Targets())

    out = io.StringIO()
    _write_text([Answer(TITLE + ".mp4", (0.75, 0.25), None)], Model, 2, "1 clip", out, None)
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 4  # video, two classes, the sum


# An unpaired and a paired dollar, a formula that cannot be parsed, escapes, and a name longer than the picture.
FORMULAS = ["$", "$x$", r"$\frac{$", "a$b$c^_", CLEAR, "n" * 900]


def test_a_dollar_in_a_picture_is_a_dollar():
    counts = np.eye(len(FORMULAS), dtype=int).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_png(confusion_matrix(FORMULAS, counts)).startswith(b"\x89PNG")
        assert as_png(worst_classes([(name, 50.0, 2) for name in FORMULAS])).startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_film_strip_may_be_of_any_class():
    from vidgn.inference.explain import Explanation, strip_png
    from vidgn.inference.windows import Window

    torch = pytest.importorskip("torch")
    window = Window(0, 8, torch.zeros(3, 8, 16, 16, dtype=torch.uint8))
    for name in FORMULAS:
        found = Explanation(name, 0.5, window, np.zeros((8, 16, 16), np.float32), np.arange(9) / 25)
        assert strip_png(found, np.zeros((8, 16, 16, 3), np.uint8), stride=1).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [*NASTY, *FORMULAS], ids=ascii)
def test_a_label_is_drawn_over_a_video(name):
    frame = np.zeros((48, 64, 3), np.uint8)
    assert draw_label(frame, plot_label(name)).shape == frame.shape


def test_a_page_and_a_card_hold_no_markup_of_a_name():
    evil = "<script>alert(1)</script>"
    html = page([Section(evil, [paragraph(evil)])])
    assert evil not in html
    described = Description((f"`{evil}\n# big", "b"), model={"name": "i3d_r50"}, norm={"name": "gn"},
                            clip_len=8, span=8, crop=32)  # fmt: skip
    card = model_card("me/x", described, None, parameters=1)
    assert "\n# big" not in card


def test_the_stream_gives_what_it_wraps():
    assert escaped(sys.stderr).fileno is not None
    assert escaped(io.StringIO()).write("a\x1b") == 2
