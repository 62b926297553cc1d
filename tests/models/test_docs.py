import re
from pathlib import Path

from vidgn.models.registry import MODELS
from vidgn.models.weights.formats import FORMATS

TESTS = Path(__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "weights.md").read_text()


def test_the_page_names_every_format_and_network():
    missing = [form.name for form in FORMATS if form.refusal is None and form.name.casefold() not in PAGE.casefold()]
    assert not missing
    assert not [name for name in MODELS if f"`{name}`" not in PAGE]


def test_the_tests_the_page_names_are_there():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) == 23
    assert not [test for file, test in named if f"def {test}(" not in next(TESTS.rglob(file)).read_text()]
