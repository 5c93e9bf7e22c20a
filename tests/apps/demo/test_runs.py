"""Complete runs of the demo on a real server."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance_apps.cli.main import main
from oneglance_apps.demo import run
from oneglance_apps.demo.folder import read_folder
from oneglance_apps.demo.measure import at_threshold
from oneglance_apps.demo.settings import DemoSettings
from oneglance_apps.demo.step_printer import StepPrinter
from oneglance_apps.demo.styles import MAX_SIDE, picture_candidates
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER
from tests import face_models
from tests.face_models import WINDOW
from tests.style_models import STYLES, style_model

SECTIONS = {
    "enrolled",
    "probes",
    "distances",
    "errors",
    "verify",
    "delete",
    "durability",
    "limitations",
    "provenance",
} | ({"styles"} if BUNDLED_STYLIZER.exists() else set())


class Page(HTMLParser):
    """The ids, the text, and every address that a browser would fetch."""

    VOID = frozenset({"meta", "link", "img", "br", "line", "rect", "path", "circle"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.images = 0
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.images += tag == "img"
        assert tag not in ("script", "iframe", "object", "embed")
        assert tag != "img" or given.get("alt")
        self.ids |= {given["id"] or ""} if "id" in given else set()
        self.addresses += [given[name] or "" for name in ("src", "href", "srcset", "data", "action") if name in given]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_the_whole_demo_on_a_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ACKNOWLEDGED", 30)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    out, kept = tmp_path / "page.html", tmp_path / "kept"
    command = ["demo", "--images", str(folder), "--out", str(out), "--keep-data", str(kept), "--seed", "1"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert str(out) in told.out
    assert "\r" not in told.out
    assert told.err == ""
    assert "the server refused 1" in told.out
    assert any(kept.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "page.html", "kept"}

    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert page.ids == SECTIONS
    assert page.images > 6
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html
    assert "<b>" not in page.text.replace("beta & <b>", "")
    for words in ("rank-1", "FPIR", "FNIR", "τ = ", "flat on cpu, exact", "acknowledged", "correct", "Limitations"):
        assert words in page.text
    # The page tells the same figures as the terminal.
    rank_one = re.search(r"nearest for \S+ % \((\d+ of \d+)\)", told.out)
    assert rank_one
    assert rank_one[1] in page.text
    acknowledged = re.search(r"killed after (\d+) acknowledged", told.out)
    assert acknowledged
    assert f"{acknowledged[1]} of {acknowledged[1]}" in page.text


def test_drawings_of_the_generator_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ACKNOWLEDGED", 20)
    monkeypatch.setattr(run, "VERIFIED_PAIRS", 20)
    monkeypatch.setattr(run, "TIMED_CALLS", 20)
    told = io.StringIO()
    models = (BUNDLED_MODEL, style_model(tmp_path / "tints"))
    settings = DemoSettings(out=tmp_path / "page.html", subjects=12, strangers=6, models=models)
    results = run.run_demo(settings, StepPrinter(told))
    figures = results.identification.figures
    assert (len(figures.mated), len(figures.non_mated)) == (48, 24)
    assert at_threshold(figures.mated, figures.non_mated, figures.tau) == figures.decided
    assert figures.rank_one.value > 0.5  # far above chance, whatever the encoder
    assert results.held
    assert results.deletion.before.candidates[0].subject_id == results.deletion.subject_id
    assert len(results.deletion.after.candidates) == 11
    assert results.durability.acknowledged >= 20
    loaded = f"--models {BUNDLED_MODEL}:{tmp_path / 'tints'}"
    assert results.command == f"oneglance demo {loaded} --subjects 12 --strangers 6 --seed 0 --fpir 0.05"
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "12 characters" in page.text
    # With too few strangers to fit tau on, both are the model's, and Verify's is one for single pairs.
    assert results.verification.of_pairs
    assert results.verification.tau != figures.tau
    assert "is the model's for single pairs" in " ".join(page.text.split())
    # A landscape in every style, before and after, and what it took.
    stylization = results.stylization
    assert stylization is not None
    assert [painting.style.name for painting in stylization.paintings] == list(STYLES)
    assert "styles" in page.ids
    for painting in stylization.paintings:
        with Image.open(io.BytesIO(painting.jpeg)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (600, 400))
        assert painting.data_uri() in page.addresses
        assert f"{painting.style.title} {painting.style.name} · CC0-1.0" in page.text
    assert stylization.before.large_uri(MAX_SIDE) in page.addresses
    line = re.search(r"4 styles of 600 x 400 pixels in .* on CPUExecutionProvider", told.getvalue())
    assert line
    assert line[0] in page.text


def test_the_threshold_is_set_by_other_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ACKNOWLEDGED", 10)
    monkeypatch.setattr(run, "VERIFIED_PAIRS", 5)
    monkeypatch.setattr(run, "TIMED_CALLS", 5)
    told = io.StringIO()
    settings = DemoSettings(out=tmp_path / "page.html", subjects=20, strangers=25, fpir=0.1, models=(BUNDLED_MODEL,))
    results = run.run_demo(settings, StepPrinter(told))
    fit = results.threshold_fit
    assert fit is not None
    assert (fit.fpir.count, fit.fpir.total) == (10, 100)
    assert results.threshold.tau == fit.tau == results.identification.figures.tau
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "the gallery’s τ" in page.text
    assert "25 other strangers" in page.text
    # A server without a stylizer: left out, with a word.
    assert results.stylization is None
    assert "left out: the server has no stylizer" in told.getvalue()
    assert "styles" not in page.ids


def _people(root: Path, people: int, photos: int) -> Path:
    """Photos of tiny faces (tests/face_models.py), a folder for each person."""
    for person in range(people):
        (root / f"p{person}").mkdir(parents=True)
        for i in range(photos):
            pixels = face_models.photo({(16 * i, 24): person}, side=WINDOW)
            (root / f"p{person}" / f"{i}.png").write_bytes(face_models.encoded(pixels))
    return root


def test_the_encoder_that_the_pictures_are_for_is_used_and_a_tau_not_fitted_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACKNOWLEDGED", 5), ("VERIFIED_PAIRS", 5), ("TIMED_CALLS", 5)):
        monkeypatch.setattr(run, name, value)
    monkeypatch.setattr("oneglance_apps.demo.timed_calls.ACCEPT_BREACHES", True)  # the tiny faces are too small
    models = (BUNDLED_MODEL, *sorted(face_models.face_models(tmp_path / "m").iterdir()))
    told = io.StringIO()
    settings = DemoSettings(images=_people(tmp_path / "people", 6, 3), out=tmp_path / "page.html", models=models)
    results = run.run_demo(settings, StepPrinter(told))
    assert results.model.name == "tiny-faces"
    assert "4 of 4 pictures looked at are of the kind that it is made for" in told.getvalue()
    assert results.identification.figures.rank_one.value == 1
    assert results.threshold_fit is None
    assert "NOT FITTED: there are fewer than 100 pictures of strangers" in told.getvalue()
    assert "τ was not fitted to these pictures" in Page((tmp_path / "page.html").read_text(encoding="utf-8")).text
    # The same models, and drawings.
    results = run.run_demo(
        DemoSettings(images=folder, out=tmp_path / "page.html", models=models), StepPrinter(io.StringIO())
    )
    assert results.model.name == BUNDLED_MODEL.name


def test_pictures_that_no_encoder_is_made_for_are_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, page = _people(tmp_path / "people", 4, 2), tmp_path / "page.html"
    assert main(["demo", "--images", str(photos), "--models", str(BUNDLED_MODEL), "--out", str(page)]) == 1
    told = capsys.readouterr().err
    assert f"{BUNDLED_MODEL.name}: 0 of 3 fit; for one, light 0, at least 0.61" in told
    assert "oneglance-exporter import dlib-faces --out models/faces" in told
    assert not page.exists()


def test_of_ones_own_pictures_the_largest_that_can_be_read_is_stylized(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACKNOWLEDGED", 5), ("VERIFIED_PAIRS", 5), ("TIMED_CALLS", 5)):
        monkeypatch.setattr(run, name, value)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    noise.save(folder / "group" / "a" / "large.png")
    (folder / "group" / "b" / "no.jpg").write_bytes(b"no picture" * 20_000)
    first, second = picture_candidates(read_folder(folder, 200, 100, 0))[:2]
    assert (first.caption, second.caption) == ("group/b/no.jpg", "group/a/large.png")
    models = (BUNDLED_MODEL, style_model(tmp_path / "tints", styles=2))
    settings = DemoSettings(images=folder, out=tmp_path / "page.html", models=models)
    stylization = run.run_demo(settings, StepPrinter(io.StringIO())).stylization
    assert stylization is not None
    assert stylization.before.caption == "group/a/large.png"
    assert (len(stylization.paintings), stylization.width, stylization.height) == (2, 160, 120)
