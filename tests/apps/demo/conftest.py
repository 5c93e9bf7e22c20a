"""A demo that waits for its server on any machine, and a folder of pictures for it."""

from pathlib import Path

import pytest

from oneglance_apps.demo.pictures import drawing
from oneglance_core.glyphs import alphabet
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneglance_apps.server_process.START_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six subjects, four of them one level deeper; one has a single picture, one a file that is not a picture."""
    root = tmp_path / "pictures"
    names = ["top/alpha", "beta & <b>", "group/a", "group/b", "group/c", "group/d"]
    for subject, name in zip(alphabet(99, 6, 4), names, strict=True):
        place = root / name.removeprefix("top/")
        place.mkdir(parents=True)
        for i, pixels in enumerate(subject.drawings[: 1 if name == "group/d" else 4]):
            (place / f"{i}.png").write_bytes(drawing(pixels, "").read())
    (root / "group" / "c" / "9.jpg").write_bytes(b"not a picture")
    (root / "notes").mkdir()
    (root / "notes" / "readme.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "0.png").write_bytes(b"")
    return root
