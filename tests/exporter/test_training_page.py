"""The Python blocks of docs/training.md, run from the first to the last as a reader would."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_every_block_runs_and_says_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert code.count("train(") >= 5
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
    told = capsys.readouterr().out
    for shown in re.findall(r"```\n(the encoder.*?)```", text, re.DOTALL):
        assert shown in told
    assert (tmp_path / "models" / "head" / "model.onnx").is_file()
