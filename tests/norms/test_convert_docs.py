import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "convert.md").read_text()


def test_the_python_of_the_page_runs(capsys):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/convert.md", "exec"), {})
    assert capsys.readouterr().out.startswith("LayerFit(name='bn1', num_groups=32, r2=")
