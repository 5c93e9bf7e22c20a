"""The demo: its figures compared with brute force, and complete runs on a real server."""

import io
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance_apps.cli.main import main
from oneglance_apps.demo import drawings, probe_cards, run
from oneglance_apps.demo.drawings import draw_collection
from oneglance_apps.demo.durability import Durability
from oneglance_apps.demo.folder import read_folder
from oneglance_apps.demo.histogram import histogram
from oneglance_apps.demo.measure import Candidate, Figures, Outcome, Share, at_fpir, at_threshold, percentile
from oneglance_apps.demo.pictures import Picture, drawing
from oneglance_apps.demo.settings import DemoSettings
from oneglance_apps.demo.step_printer import StepPrinter
from oneglance_apps.demo.styles import MAX_SIDE, picture_candidates
from oneglance_apps.landscape import landscape, png
from oneglance_apps.server_process import ServerProcess, ServerProcessError
from oneglance_core.glyphs import TRAINING_SEEDS, alphabet
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER
from tests import face_models
from tests.face_models import WINDOW
from tests.style_models import STYLES, style_model
from tests.waiting import PATIENCE_SECONDS

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


def outcomes(seed: int, mated: int, non_mated: int, tau: float, subjects: int = 12) -> Figures:
    """Random answers of a server that decides at ``tau``; distances with two decimals, so that ties occur."""
    rng = random.Random(seed)
    pictures = [drawing(np.full((9, 9), i, np.uint8), str(i)) for i in range(3)]

    def outcome(i: int, mate: str | None) -> Outcome:
        near = {f"s{j}": round(rng.uniform(0.2, 1.5), 2) for j in range(subjects)}
        if mate is not None:
            near[mate] = round(rng.uniform(0, 1.2), 2)
        ranked = sorted(near.items(), key=lambda item: item[1])[: subjects - 2]
        identified = ranked[0][0] if ranked[0][1] <= tau else None
        return Outcome(pictures[i % 3], mate or f"x{i}", mate, identified, tuple(Candidate(*item) for item in ranked))

    return Figures(
        tuple(outcome(i, f"s{i % subjects}") for i in range(mated)),
        tuple(outcome(i, None) for i in range(non_mated)),
        tau,
    )


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_brute_force(seed: int) -> None:
    figures = outcomes(seed, mated=60, non_mated=40, tau=0.4)
    rank_one = identified = mistaken = let_in = 0
    for outcome in figures.mated:
        nearest = outcome.candidates[0]
        rank_one += nearest.subject_id == outcome.mate
        identified += nearest.subject_id == outcome.mate and nearest.distance <= 0.4
        mistaken += nearest.subject_id != outcome.mate and nearest.distance <= 0.4
    for outcome in figures.non_mated:
        let_in += outcome.candidates[0].distance <= 0.4
    assert figures.rank_one == Share(rank_one, 60)
    assert figures.decided.fnir == Share(60 - identified, 60)
    assert figures.decided.fpir == Share(let_in, 40)
    assert figures.mistaken == Share(mistaken, 60)
    assert at_threshold(figures.mated, figures.non_mated, 0.4) == figures.decided


@pytest.mark.parametrize("fpir", [0.0, 0.01, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_tau_for_an_fpir_is_the_largest_that_keeps_it(seed: int, fpir: float) -> None:
    figures = outcomes(seed, mated=80, non_mated=50, tau=0.4)
    point = at_fpir(figures.mated, figures.non_mated, fpir)
    assert point.fpir.value <= fpir
    every = sorted({o.nearest for o in (*figures.mated, *figures.non_mated)} | {0.0})
    best = min(
        candidate.fnir.value
        for candidate in (at_threshold(figures.mated, figures.non_mated, tau) for tau in every)
        if candidate.fpir.value <= fpir
    )
    assert point.fnir.value == best
    if point.tau < math.inf:
        above = at_threshold(figures.mated, figures.non_mated, math.nextafter(point.tau, math.inf))
        assert above.fpir.value > fpir


@pytest.mark.parametrize(("count", "total"), [(0, 100), (1, 100), (50, 100), (99, 100), (100, 100), (7, 1840), (3, 4)])
def test_intervals_are_clopper_and_pearsons(count: int, total: int) -> None:
    def at_most(k: int, p: float) -> float:
        return sum(math.comb(total, i) * p**i * (1 - p) ** (total - i) for i in range(k + 1))

    low, high = Share(count, total).interval
    assert low <= count / total <= high
    assert low == 0 if count == 0 else 1 - at_most(count - 1, low) == pytest.approx(0.025, abs=1e-6)
    assert high == 1 if count == total else at_most(count, high) == pytest.approx(0.025, abs=1e-6)


def test_an_interval_of_the_literature() -> None:
    assert Share(1, 10).interval == pytest.approx((0.002529, 0.445016), abs=1e-5)


def test_percentiles_and_nothing() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert math.isnan(Share(0, 0).value)


def test_mates_beyond_the_candidates_are_missed() -> None:
    picture = drawing(np.zeros((9, 9), np.uint8), "p")
    outcome = Outcome(picture, "a", "a", None, (Candidate("b", 0.5),))
    assert (outcome.mate_rank, outcome.mate_distance, outcome.correct) == (None, math.inf, False)
    assert at_threshold([outcome], [outcome], 1.0).fnir == Share(1, 1)


def test_histogram_has_all_of_both_sets_and_tau() -> None:
    svg = histogram([0.1, 0.2, math.inf], [0.5, 0.9], 0.3, ("known <1>", "strangers"))
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    for words in ("τ = 0.3000", "squared L2", "known &lt;1&gt;"):
        assert words in svg
    assert not re.search("nan|inf", svg)
    assert "<svg" in histogram([], [], 0.0, ("", ""))  # nothing to show is no reason to fail


def test_cards_are_chosen_by_rule_and_show_the_mate() -> None:
    figures = outcomes(1, mated=60, non_mated=40, tau=0.3)
    enrolled = {f"s{j}": drawing(np.full((9, 9), j, np.uint8), f"s{j}") for j in range(12)}
    shown = {group.title: group for group in probe_cards.groups(figures, enrolled, 0, "drawing")}
    assert shown == {group.title: group for group in probe_cards.groups(figures, enrolled, 0, "drawing")}
    wrong = shown["Worst: identified as another subject"].cards
    expected = sorted((o for o in figures.mated if o.identified not in (None, o.mate)), key=lambda o: o.nearest)
    assert [card.subject_id for card in wrong] == [o.identified for o in expected[: probe_cards.GROUP_SIZE]]
    let_in = [o for o in figures.non_mated if o.identified]
    assert shown["Worst: strangers let in"].rule.startswith(f"{probe_cards.GROUP_SIZE} of {len(let_in)}")
    for outcome in figures.mated:
        card = probe_cards.card(outcome, enrolled, figures.tau)
        assert outcome.mate_rank is None or any(row.mark.startswith("mate") for row in card.rows)
        assert card.right == (outcome.identified == outcome.mate)
        assert card.decision == ("UNKNOWN" if outcome.identified is None else "IDENTIFIED")


def test_characters_are_reproducible_and_never_those_of_training() -> None:
    one, same, other = (draw_collection(5, 2, seed) for seed in (3, 3, 4))
    assert one == same
    assert {s.enrolled_from.read() for s in one.subjects}.isdisjoint(s.enrolled_from.read() for s in other.subjects)
    assert len({s.id for s in one.subjects} | {s.id for s in one.strangers}) == 7
    many = draw_collection(3, 25, 0)
    assert len({s.id for s in many.subjects} | {s.id for s in (*many.strangers, *many.calibration_strangers)}) == 53
    assert not one.calibration_strangers  # too few to set a threshold by
    assert {len(s.probes) for s in one.subjects} | {len(s.probes) for s in one.strangers} == {drawings.PROBES}
    last = drawings.MAX_SEED * (drawings.MAX_CHARACTERS // drawings.ALPHABET)
    assert last + drawings.MAX_CHARACTERS // drawings.ALPHABET <= TRAINING_SEEDS.start


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


def test_a_folder_is_read_by_its_own_names(folder: Path) -> None:
    collection = read_folder(folder, 200, 100, 0)
    ids = {s.id for s in collection.subjects} | {s.id for s in collection.strangers}
    assert ids == {"alpha", "beta & <b>", "group:a", "group:b", "group:c", "group:d"}
    assert len(collection.strangers) == 2
    assert all(s.enrolled_from.caption.endswith("/0.png") for s in collection.subjects)
    assert list(collection.mated())
    assert collection == read_folder(folder, 200, 100, 0)
    assert {read_folder(folder, 200, 100, seed).strangers for seed in range(9)} != {collection.strangers}
    capped = read_folder(folder, 2, 1, 0)
    assert (len(capped.subjects), len(capped.strangers)) == (2, 1)


def _nothing(root: Path) -> None: ...


def _empty(root: Path) -> None:
    root.mkdir()


def _flat(root: Path) -> None:
    root.mkdir()
    (root / "a.png").write_bytes(b"")


def _one_subject(root: Path) -> None:
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.png").write_bytes(b"")
    (root / "a" / "2.png").write_bytes(b"")


def _one_picture_each(root: Path) -> None:
    for name in "abc":
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(b"")


def _no_real_pictures(root: Path) -> None:
    for name in "abc":
        (root / name).mkdir(parents=True)
        for i in range(3):
            (root / name / f"{i}.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "no such folder"),
        (_empty, "no pictures found"),
        (_flat, "one folder per subject"),
        (_one_subject, "one subject only"),
        (_one_picture_each, "none is left to identify"),
        (_no_real_pictures, "not a picture"),
    ],
)
def test_bad_folders_are_refused_in_words(
    make: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "pictures")
    assert main(["demo", "--images", str(tmp_path / "pictures"), "--out", str(tmp_path / "page.html")]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_bad_settings_are_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "something").write_text("precious")
    for arguments, message in (
        (["--out", str(tmp_path / "nowhere" / "page.html")], "can't write"),
        (["--keep-data", str(tmp_path / "kept")], "empty folder"),
        (["--subjects", "1"], "2 subjects"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--fpir", "1"], "--fpir must be less than 1, got 1.0"),
        (["--seed", str(2**31)], "a seed is between"),
    ):
        assert main(["demo", "--out", str(tmp_path / "page.html"), *arguments]) == 1
        assert message in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["something"]


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


def test_the_landscape_is_always_the_same_and_a_png_anybody_reads() -> None:
    small = landscape(40)
    assert small.shape == (40, 60, 3)
    assert (landscape(40) == small).all()
    assert small[:10].mean(axis=(0, 1))[2] > small[:10].mean(axis=(0, 1))[0]  # the sky is blue
    with Image.open(io.BytesIO(png(small))) as read:
        read.load()
        assert read.format == "PNG"
        assert (np.asarray(read) == small).all()


def test_what_is_lost_is_counted() -> None:
    fine = Durability(4, 10, 10, 10, 4, 1, 5, 5, True, 15, 0.1)
    assert fine.kept_all
    assert fine.lost == 0
    assert Durability(4, 10, 10, 9, 4, 1, 5, 4, True, 15, 0.1).lost == 2
    assert not Durability(4, 10, 10, 10, 4, 1, 5, 5, False, 15, 0.1).kept_all


def test_the_server_ends_with_the_demo_when_a_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int | None] = []
    start = ServerProcess.start

    def started(self: ServerProcess) -> float:
        seconds = start(self)
        pids.append(self.pid)
        return seconds

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ServerProcess, "start", started)
    monkeypatch.setattr("oneglance_apps.demo.timed_calls.enroll_all", fail)
    out = tmp_path / "page.html"
    assert main(["demo", "--subjects", "2", "--strangers", "1", "--out", str(out)]) == 130
    assert pids[0] is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert not out.exists()


def test_a_terminated_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "oneglance_apps.cli", "demo", "--out", str(tmp_path / "page.html")]
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "process " in line:
                break
        server = int(line.rpartition(" ")[2])
        os.kill(server, 0)
        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()
        assert demo.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    with ServerProcess(tmp_path / "data", tmp_path / "log") as server:
        with pytest.raises(ServerProcessError, match=r"did not start:\n(.*\n)*.*can't open .*/data"):
            server.start()
        assert server.pid is None


def test_settings_of_other_servers_and_proxies_are_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ONEGLANCE_MODELS", "/nonexistent")
    with ServerProcess(tmp_path / "data", tmp_path / "log") as server:
        server.start()
        with server.client() as client:
            assert list(client.list_galleries()) == []


def test_progress_is_one_line_on_a_terminal_and_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("oneglance_apps.demo.step_printer._LIVE_SECONDS", 0.0)
    live, plain = Terminal(), io.StringIO()
    for out in (live, plain):
        printer = StepPrinter(out)
        printer.step("Look")
        printer.progress("seen", 1, 2)
        printer.say("done")
    assert plain.getvalue() == "\n1. Look\n   done\n"
    assert live.getvalue() == "\n1. Look\n   seen 1 of 2\r" + " " * 14 + "\r   done\n"


def test_pictures_become_small_pngs(tmp_path: Path) -> None:
    Image.new("RGBA", (300, 200), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    uri = Picture(tmp_path / "clear.png", "clear").data_uri()
    assert uri.startswith("data:image/png;base64,")
    assert len(uri) < 600
