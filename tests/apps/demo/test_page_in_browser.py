"""The page in a headless Chromium: short enough to be looked at, faces where they are, nothing beside the screen."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from oneglance_apps.demo import run
from oneglance_apps.demo.settings import DemoSettings
from oneglance_apps.demo.step_printer import StepPrinter
from tests.apps.console.browsing import CHROMIUM, playwright
from tests.documents import brought

MOST_PIXELS = 4000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        running = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACKNOWLEDGED", 5), ("VERIFIED_PAIRS", 5), ("TIMED_CALLS", 5)):
        monkeypatch.setattr(run, name, value)


def sizes(browser: Any, page: Path, width: int) -> tuple[int, int]:
    """(width, height) of all of the page."""
    shown = browser.new_page(viewport={"width": width, "height": 900})
    shown.goto(page.as_uri())
    assert shown.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
    found: list[int] = shown.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    shown.close()
    return found[0], found[1]


def fits(browser: Any, page: Path) -> None:
    for width in (1280, 1440):
        assert sizes(browser, page, width)[1] <= MOST_PIXELS
    assert sizes(browser, page, 390)[0] == 390


def test_the_page_of_drawings_fits(browser: Any, tmp_path: Path) -> None:
    results = run.run_demo(DemoSettings(out=tmp_path / "page.html"), StepPrinter(io.StringIO()))
    assert results.enrolled > 190
    assert results.stylization is not None
    fits(browser, tmp_path / "page.html")


def test_a_face_model_that_is_there_is_used_and_the_page_shows_faces(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    brought.tiny_faces(tmp_path)
    for person in range(6):
        for number in range(3):
            brought.save(brought.face(person, number), tmp_path / f"people/p{person}/{number}.png")
    settings = DemoSettings(images=Path("people"), out=Path("page.html"))
    results = run.run_demo(settings, StepPrinter(io.StringIO()))
    assert results.model.name == "tiny-faces"
    assert "--models bundled:models/faces" in results.command
    enrolled = results.enrollment.subjects[0].enrolled_from
    box = enrolled.face
    assert box is not None
    with Image.open(enrolled.source) as photo:
        assert 0 < box[2] - box[0] < photo.width / 2
    assert all(outcome.probe.face for outcome in results.identification.outcomes)
    fits(browser, tmp_path / "page.html")


def test_without_pictures_of_ones_own_drawings_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    brought.tiny_faces(tmp_path)
    assert DemoSettings().served == ()
    assert DemoSettings(images=Path("people"), models="mine").served == (Path("mine"),)
