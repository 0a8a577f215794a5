"""The README's examples run as printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.mark.slow
def test_python_examples(tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "readme" / "metrics.json").exists()
    assert "total r" in capsys.readouterr().out


def test_commands_are_the_ones_ci_runs():
    text = README.read_text()
    for marker in ("main-job", "tests"):
        assert re.search(rf"<!-- {marker} -->\n```\n.+\n```", text)
