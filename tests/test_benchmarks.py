"""Every benchmark says how it is run, whatever is installed for what it measures."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if 'if __name__ == "__main__"' in path.read_text())
BY_ANOTHER_PYTHON = ("gate_camera", "signal_rivals")  # the system's, for its GStreamer; one that has aeon


@pytest.mark.parametrize("module", [name for name in MODULES if name not in BY_ANOTHER_PYTHON])
def test_help_is_told(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    name = f"benchmarks.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)  # runpy warns of a module that is there already
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__")
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    assert said.startswith("usage: ")
    assert len(said.splitlines()) > 3


def test_none_hides_a_module_of_python() -> None:
    """Where one is run as a file, its folder comes first."""
    assert not {path.stem for path in FOLDER.glob("*.py")} & sys.stdlib_module_names
