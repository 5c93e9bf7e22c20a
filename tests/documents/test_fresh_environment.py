"""README in a fresh environment, into which the clone is installed as it says."""

import os
import sys
from pathlib import Path

import pytest

from tests.documents.blocks import ROOT
from tests.documents.reading import SLOW_PAGES_TOO, read_page
from tests.test_packaging import run

EXTRAS = "cpu,faces,console,watch,http"
"""All that README's commands need: its servers, the import of faces, the console, and videos."""


@pytest.mark.skipif(os.environ.get(SLOW_PAGES_TOO) != "all", reason=f"takes minutes: {SLOW_PAGES_TOO}=all runs it")
def test_readme_in_a_fresh_environment(tmp_path: Path) -> None:
    fresh, folder = tmp_path / "venv", tmp_path / "reader"
    folder.mkdir()
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "-q", "--python", sys.executable, str(fresh), cwd=tmp_path)
    into, constraints = str(fresh / "bin/python"), str(ROOT / "constraints.txt")
    run(*uv, "pip", "install", "-q", "--python", into, "-c", constraints, f"{ROOT}[{EXTRAS}]", cwd=tmp_path)
    read_page("README.md", folder, programs=fresh / "bin")
