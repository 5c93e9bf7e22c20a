"""The Python blocks of docs/training.md, run from the first to the last as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_every_block_runs_and_says_what_the_page_shows(tmp_path: Path) -> None:
    text = PAGE.read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert code.count("train(") >= 5
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for shown in re.findall(r"```\n(the encoder.*?)```", text, re.DOTALL):
        assert shown in done.stdout
    assert (tmp_path / "models" / "head" / "model.onnx").is_file()
