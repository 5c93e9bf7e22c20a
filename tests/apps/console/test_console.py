"""The console in a headless Chromium: what a user sees and does, and what must never happen."""

import base64
import http.client
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oneglance import Client
from oneglance.v1.common_pb2 import Threshold
from oneglance.v1.face_pb2 import QUALITY_POLICY_OFF, QUALITY_POLICY_STRICT
from oneglance.v1.gallery_pb2 import CalibrateResponse, SkippedProbe
from oneglance_apps.console import wording
from oneglance_apps.console.process import ConsoleError, start_console
from oneglance_apps.console.words import Words
from tests.apps.console.browsing import COMMAND, ConsoleProcess, choose, open_tab, page_of, playwright
from tests.apps.console.browsing import until as browser_until
from tests.apps.console.fake_server import AUTHOR_TAU, FakeServer, encode_colour, photo
from tests.models import SIDE, pixels_model
from tests.running import ServerProcess, server_thread
from tests.test_names_everywhere import NAMES
from tests.waiting import PATIENCE_SECONDS, until

expect = playwright.expect
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
ORANGE = (255, 90, 0)


@pytest.fixture
def page(browser: Any, url: str, fake: FakeServer, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page with a new gallery, in which Ruth (red) and Boris (blue) are enrolled."""
    fake.galleries.clear()
    fake.make("people", ruth=RED, boris=BLUE)
    with page_of(browser, url) as opened:
        yield opened


def look(page: Any, picture: bytes) -> None:
    choose(page, "Choose a photo", {"name": "a.png", "mimeType": "image/png", "buffer": picture})
    page.locator(".stage[data-state=seen]").wait_for()


def test_a_dropped_photo_shows_every_face_with_name_and_distance(page: Any, fake: FakeServer) -> None:
    picture = base64.b64encode(photo(ORANGE, GREEN)).decode()
    data = page.evaluate_handle(
        """(text) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], "a.png"));
            return data;
        }""",
        picture,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    expect(page.locator(".box")).to_have_count(2)
    distance = ((encode_colour(ORANGE) - encode_colour(RED)) ** 2).sum()
    assert distance < AUTHOR_TAU
    expect(page.locator(".box.known")).to_have_text(f"ruth · {distance:.3f}")
    expect(page.locator(".box.unknown")).to_contain_text("unknown · ")
    expect(page.locator(".box.unknown")).to_contain_text("2.000")
    expect(page.locator(".look .summary")).to_have_text("2 faces: 1 identified, 1 unknown.")
    expect(page.locator(".look .next")).to_have_text("Faces below 12 pixels were not looked for.")
    expect(page.locator(".card.known .decision")).to_have_text("ruth")
    basis = page.locator(".basis")
    for words in ("0.3600, recommended by the model's author", "colour-faces fafafafafafa", "revision 2, 2 subjects"):
        expect(basis).to_contain_text(words)
    # The frames lie where the faces are: the first from (20, 50) to (80, 110) of 320 x 200.
    frame, shown = page.locator(".box").first.bounding_box(), page.locator(".stage img").bounding_box()
    scale = shown["width"] / 320
    assert abs(frame["x"] - shown["x"] - 20 * scale) < 1
    assert abs(frame["y"] - shown["y"] - 50 * scale) < 1
    assert abs(frame["width"] - 60 * scale) < 1
    assert page.locator(".box").first.locator("i").count() == 5
    # The bar of the nearest candidate ends before the mark of tau for the one, after it for the other.
    for card, ends_before in ((".card.known", True), (".card.unknown", False)):
        bar = page.locator(f"{card} .candidate").first
        end = bar.locator(".bar i").bounding_box()
        mark = bar.locator(".bar s").bounding_box()
        assert (end["x"] + end["width"] < mark["x"]) == ends_before


def test_a_photo_without_faces_says_what_was_searched(page: Any) -> None:
    look(page, photo())
    expect(page.locator(".look .summary")).to_have_text(
        "No face in these 320 × 200 pixels. The smallest face searched for is 12 pixels wide."
    )
    look(page, b"no picture")
    expect(page.locator(".right .refusal").first).to_contain_text("Save it as JPEG or PNG")
    expect(page.locator(".box")).to_have_count(0)


def test_enrolling_a_group_photo_is_refused_until_a_face_is_chosen(page: Any, fake: FakeServer) -> None:
    look(page, photo(GREEN, ORANGE))
    page.locator(".enroll").get_by_label("name").fill("greta")
    page.locator(".enroll").get_by_label("labels").fill("team=night, door = 3")
    page.locator(".enroll").get_by_role("button", name="Enroll").click()
    expect(page.locator(".right .refusal").first).to_contain_text("2 faces were found; say which is meant")
    expect(page.locator(".asked .box")).to_have_count(2)
    assert set(fake.galleries["people"].subjects) == {"ruth", "boris"}
    page.locator(".box").first.click()
    expect(page.locator(".enroll .title")).to_have_text("Enroll face 1 of 2")
    page.locator(".enroll").get_by_role("button", name="Enroll").click()
    expect(page.locator(".box.known").first).to_have_text("greta · 0.000")
    ((_, vector),) = fake.galleries["people"].vectors["greta"]
    assert np.allclose(vector, encode_colour(GREEN))
    open_tab(page, "People")
    row = page.locator("tr", has_text="greta")
    expect(row).to_contain_text("door=3, team=night")
    # Again under the same name: one more encoding.
    open_tab(page, "Look")
    page.locator(".card").first.click()
    page.locator(".enroll").get_by_label("name").fill("greta")
    page.locator(".enroll").get_by_role("button", name="Enroll").click()
    expect(page.get_by_text("greta: one more encoding")).to_be_visible()
    assert len(fake.galleries["people"].vectors["greta"]) == 2


def test_enrolling_tells_the_nearest_other_subject_and_what_is_doubtful(page: Any) -> None:
    look(page, photo(ORANGE))
    page.locator(".enroll").get_by_label("name").fill("greta")
    page.locator(".enroll").get_by_role("button", name="Enroll").click()
    distance = f"{((encode_colour(ORANGE) - encode_colour(RED)) ** 2).sum():.4f}"
    expect(page.get_by_text(f"Nearest other subject: ruth, {distance}")).to_be_visible()
    expect(page.get_by_text(f"Doubtful: it is {distance} from ruth (within 0.3600).")).to_be_visible()


def test_not_this_person_keeps_the_face_as_a_negative(page: Any, fake: FakeServer) -> None:
    look(page, photo(ORANGE, BLUE))
    expect(page.locator(".box.known")).to_have_count(2)
    page.get_by_role("button", name="Not ruth").click()
    expect(page.get_by_text("Kept as a negative of ruth")).to_be_visible()
    expect(page.locator(".box.known")).to_have_count(1)
    expect(page.locator(".box.unknown")).to_contain_text("boris")
    expect(page.locator(".card.unknown .candidate").first).to_contain_text("nearer to a negative")
    ((_, vector),) = fake.galleries["people"].negatives["ruth"]
    assert np.allclose(vector, encode_colour(ORANGE))
    open_tab(page, "People")
    expect(page.locator("tr", has_text="ruth").locator("td.negatives")).to_have_text("1")


def test_names_of_many_scripts_are_shown_and_entered(page: Any, fake: FakeServer) -> None:
    fake.galleries.clear()
    fake.make("people", **dict.fromkeys(NAMES.values(), GREEN))
    page.reload()
    open_tab(page, "People")
    expect(page.locator(".people .count")).to_have_text(f"{len(NAMES)} subjects")
    shown: set[str] = set()

    def scrolled() -> bool:
        """Some rows further down, until all were in view."""
        shown.update(filter(None, page.locator(".subjects td.id div").all_inner_texts()))
        page.locator(".subjects").evaluate("box => box.scrollTop += 300")
        return shown >= set(NAMES.values())

    browser_until(page, scrolled)
    assert shown == set(NAMES.values())
    open_tab(page, "Look")
    look(page, photo(ORANGE))
    for name in ("می‌خواهم", "ශ්‍රී", "👩‍👩‍👧", "Mac O’Brien"):
        page.locator(".enroll").get_by_label("name").fill(name)
        page.locator(".enroll").get_by_role("button", name="Enroll").click()
        expect(page.locator(".enroll").get_by_label("name")).to_have_value("")
        until(partial(fake.galleries["people"].subjects.__contains__, name))


def test_a_threshold_set_by_hand_is_where_tau_was_on_every_bar(page: Any, fake: FakeServer) -> None:
    look(page, photo(ORANGE))
    expect(page.locator(".box.known")).to_have_count(1)
    mark, bar = page.locator(".card .bar s").first, page.locator(".card .bar i").first
    before, short = mark.bounding_box()["x"], bar.bounding_box()["width"]
    open_tab(page, "Threshold")
    expect(page.locator(".figure").first).to_have_text("τ 0.3600")
    page.get_by_role("button", name="Set by hand").click()
    expect(page.locator(".threshold .refusal").first).to_contain_text("Type a τ first")
    page.get_by_label("τ, squared L2").fill("-1")  # refused in words, not changed to 0
    page.get_by_role("button", name="Set by hand").click()
    expect(page.locator(".threshold .refusal").first).to_contain_text("Must be finite and >= 0")
    expect(page.locator(".figure").first).to_have_text("τ 0.3600")
    page.get_by_label("τ, squared L2").fill("0.01")
    page.get_by_role("button", name="Set by hand").click()
    expect(page.locator(".figure").first).to_have_text("τ 0.0100")
    expect(page.locator(".versions tr").nth(1)).to_contain_text("set by hand")
    open_tab(page, "Look")
    expect(page.locator(".box.unknown")).to_have_count(1)
    expect(page.locator(".basis")).to_contain_text("0.0100, set by hand on this gallery (1)")
    assert mark.bounding_box()["x"] == before  # tau stands still
    assert bar.bounding_box()["width"] > 2 * short
    open_tab(page, "Threshold")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".figure").first).to_have_text("τ 0.3600")
    expect(page.locator(".versions tr").nth(1)).to_contain_text("cleared")


def probe_folders(folder: Path) -> tuple[Path, Path]:
    """Strangers of many hues, 2 photos each; 2 new photos of Ruth and of Boris; and one of a person not enrolled."""
    for i in range(10):
        for j in range(2):
            path = folder / "strangers" / f"s{i}" / f"{j}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo((200 - 12 * i, 200 + j, 60 + 15 * i)))
    (folder / "strangers" / "s0" / "empty.png").write_bytes(photo())
    for name, colours in {
        "ruth": (ORANGE, (255, 0, 30)),
        "boris": ((0, 9, 250), (60, 0, 255)),
        "noah": (GREEN,),
    }.items():
        for j, colour in enumerate(colours):
            path = folder / "mates" / name / f"{j}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo(colour))
    return folder / "strangers", folder / "mates"


def test_measured_probes_give_a_det_curve_with_tau_on_it_and_calibrate(
    page: Any, fake: FakeServer, tmp_path: Path
) -> None:
    open_tab(page, "Threshold")
    expect(page.locator(".charts")).to_contain_text("A curve needs probes")
    strangers, mates = probe_folders(tmp_path)
    choose(page, "Strangers", strangers)
    expect(page.locator(".measured")).to_have_text(
        "20 photos of 10 strangers, 0 photos of enrolled people. Left out: 1 × No face was found"
    )
    choose(page, "Enrolled people", mates)
    expect(page.locator(".measured")).to_contain_text("20 photos of 10 strangers, 4 photos of enrolled people.")
    expect(page.locator(".measured")).to_contain_text("1 × no subject of that name is enrolled: noah")
    page.locator(".det svg").wait_for()
    expect(page.locator(".det svg")).to_contain_text("τ 0.3600")
    expect(page.locator(".rates svg")).to_contain_text("τ 0.3600")
    expect(page.locator(".at-tau")).to_have_text("At τ 0.3600: FPIR 0 %, FNIR 0 %.")
    page.get_by_label("τ, squared L2").fill("0.8")
    page.get_by_role("button", name="Set by hand").click()
    expect(page.locator(".det svg")).to_contain_text("τ 0.8000")
    stranger_distances = [
        min(((encode_colour((200 - 12 * i, 200 + j, 60 + 15 * i)) - encode_colour(c)) ** 2).sum() for c in (RED, BLUE))
        for i in range(10)
        for j in range(2)
    ]
    share = np.mean(np.array(stranger_distances) <= 0.8)
    assert 0 < share < 1
    expect(page.locator(".at-tau")).to_have_text(f"At τ 0.8000: FPIR {100 * share:.3g} %, FNIR 0 %.")
    page.get_by_label("target FPIR").fill("10")
    page.get_by_role("button", name="Try").click()
    expect(page.locator(".calibrated")).to_contain_text("would do")
    expect(page.locator(".figure").first).to_have_text("τ 0.8000")
    page.get_by_role("button", name="Calibrate").click()
    expect(page.locator(".calibrated")).to_contain_text("is in force")
    expect(page.locator(".calibrated")).to_contain_text("FPIR 10 % (0 % to 25 %), FNIR 0 %, on 20 photos of strangers")
    fitted = fake.galleries["people"].threshold.tau
    expect(page.locator(".figure").first).to_have_text(f"τ {fitted:.4f}")
    expect(page.locator(".det svg")).to_contain_text(f"τ {fitted:.4f}")
    assert fake.galleries["people"].versions[-1].calibration.data == "24 photos given to the console, of 10 strangers"
    # On another page nothing was measured; the calibration is still a point.
    page.reload()
    open_tab(page, "Threshold")
    expect(page.locator(".charts")).to_contain_text("Measured when this τ was calibrated. A curve needs probes")
    expect(page.locator(".det svg")).to_contain_text(f"τ {fitted:.4f}")


def pick(page: Any, gallery: str) -> None:
    page.locator(".picker").click()
    page.get_by_role("option", name=gallery).click()


def test_a_gallery_that_can_not_be_had_leaves_the_one_before_alone(page: Any, fake: FakeServer) -> None:
    fake.make("women", ruth=RED)
    fake.make("gone", boris=BLUE)
    page.reload()
    page.get_by_role("tab", name="Look").wait_for()
    pick(page, "women")
    look(page, photo(GREEN))
    expect(page.locator(".box.unknown")).to_have_count(1)
    page.locator(".enroll").get_by_label("name").fill("gina")
    open_tab(page, "People")
    expect(page.locator("td", has_text="ruth")).to_have_count(1)
    del fake.galleries["gone"]
    pick(page, "gone")
    expect(page.locator(".trouble")).to_contain_text("No gallery 'gone'")
    expect(page.locator("td:visible")).to_have_count(0)
    open_tab(page, "Look")
    expect(page.locator(".box")).to_have_count(0)
    expect(page.locator(".enroll")).to_be_hidden()
    open_tab(page, "Threshold")
    expect(page.locator(".figure").first).to_have_text("")
    page.get_by_label("τ, squared L2").fill("0.5")
    for button in ("Set by hand", "Clear", "Try", "Calibrate"):
        page.get_by_role("button", name=button).click()
    # It is back.
    fake.make("gone", noah=GREEN)
    open_tab(page, "People")
    expect(page.locator("td", has_text="noah")).to_have_count(1)
    expect(page.locator(".trouble")).to_have_text("")
    open_tab(page, "Look")
    expect(page.locator(".box.known")).to_have_text("noah · 0.000")
    for name, subject in (("people", "boris"), ("women", "ruth"), ("gone", "noah")):
        assert not fake.galleries[name].versions
        assert subject in fake.galleries[name].subjects
        assert "gina" not in fake.galleries[name].subjects


def test_of_two_picks_the_later_counts_whoever_answers_first(page: Any, fake: FakeServer) -> None:
    fake.make("slow", sally=GREEN)
    fake.make("women", greta=GREEN)
    page.reload()
    page.get_by_role("tab", name="Look").wait_for()
    look(page, photo(GREEN))
    expect(page.locator(".box.unknown")).to_have_count(1)
    fake.slow["slow"] = threading.Event()
    try:
        pick(page, "slow")
        # Not known yet: there is nothing to act on.
        expect(page.locator(".enroll")).to_be_hidden()
        open_tab(page, "Threshold")
        page.get_by_label("τ, squared L2").fill("0.5")
        page.get_by_role("button", name="Set by hand").click()
        pick(page, "women")
        open_tab(page, "Look")
        expect(page.locator(".box.known")).to_have_text("greta · 0.000")
    finally:
        fake.slow.pop("slow").set()
    open_tab(page, "People")
    expect(page.locator("td", has_text="greta")).to_have_count(1)
    open_tab(page, "Look")
    page.locator(".enroll").get_by_label("name").fill("gina")
    page.locator(".enroll").get_by_role("button", name="Enroll").click()
    expect(page.get_by_text("gina: enrolled")).to_be_visible()
    assert [name for name, gallery in fake.galleries.items() if "gina" in gallery.subjects] == ["women"]
    assert not any(gallery.versions for gallery in fake.galleries.values())


def test_what_was_measured_does_not_outlive_its_gallery(page: Any, fake: FakeServer, tmp_path: Path) -> None:
    fake.make("women", ruth=RED)
    page.reload()
    open_tab(page, "Threshold")
    strangers, mates = probe_folders(tmp_path)
    choose(page, "Strangers", strangers)
    choose(page, "Enrolled people", mates)
    expect(page.locator(".at-tau")).to_have_text("At τ 0.3600: FPIR 0 %, FNIR 0 %.")
    refusal = page.get_by_text("The target FPIR must be more than 0 and less than 100 %.")
    for wrong in ("", "0", "-1", "100"):
        page.get_by_label("target FPIR").fill(wrong)
        page.get_by_role("button", name="Calibrate").click()
        expect(refusal).to_be_visible()
        page.get_by_label("target FPIR").fill("10")
        page.get_by_role("button", name="Try").click()
        expect(refusal).to_have_count(0)
    expect(page.locator(".calibrated")).to_contain_text("would do")
    assert not fake.galleries["people"].versions
    # Nobody is near any more, so nobody is identified.
    fake.galleries["people"].vectors.clear()
    fake.galleries["people"].revision += 1
    open_tab(page, "People")
    open_tab(page, "Threshold")
    expect(page.locator(".at-tau")).to_have_text("At τ 0.3600: FPIR 0 %, FNIR 100 %.")
    pick(page, "women")
    expect(page.locator(".figure").first).to_have_text("τ 0.3600")
    expect(page.locator(".calibrated")).to_have_text("")
    expect(page.locator(".measured")).to_have_text("")
    expect(page.locator(".charts")).to_contain_text("A curve needs probes")


def test_words_about_rates_and_what_was_left_out() -> None:
    say = Words("en")
    expected = Threshold(expected_fpir=0.004)
    assert wording.expected_fpir_text(say, expected, 5) == "about 0.4 % with 5 subjects"
    answer = CalibrateResponse(skipped=[SkippedProbe(index=0)], skipped_count=3000)
    assert wording.calibration_text(say, answer, dry_run=True).endswith(" Left out: 3,000 photos.")
    assert "Left out" not in wording.calibration_text(say, CalibrateResponse(), dry_run=True)


def test_a_server_that_comes_late_is_noticed(browser: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    console = ConsoleProcess(address, tmp_path)
    with page_of(browser, console.url) as page:
        expect(page.locator(".trouble")).to_have_text(f"The server at {address} does not answer.")
        expect(page.locator(".look .summary")).to_have_text("")
        with FakeServer(address) as fake:  # type: ignore[abstract]
            fake.make("people", ruth=RED)
            expect(page.locator(".picker")).to_contain_text("people")
            expect(page.locator(".trouble")).to_have_text("")
            look(page, photo(RED))
            expect(page.locator(".box.known")).to_have_text("ruth · 0.000")
    console.end()


def test_names_labels_and_errors_are_text(page: Any, fake: FakeServer) -> None:
    evil = "<img src=x onerror=alert(1)>{{7*7}}"
    look(page, photo(GREEN))
    page.locator(".enroll").get_by_label("name").fill(evil)
    page.locator(".enroll").get_by_label("labels").fill(f"{evil}={evil}")
    page.locator(".enroll").get_by_role("button", name="Enroll").click()
    expect(page.locator(".box.known")).to_have_text(f"{evil} · 0.000")
    open_tab(page, "People")
    expect(page.locator("td.id", has_text=evil)).to_have_text(evil)
    page.locator("tr", has_text=evil).get_by_role("button", name="Delete").click()
    expect(page.locator(".dialog .title")).to_have_text(f"Delete {evil}?")
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="New gallery").click()
    page.locator(".dialog").get_by_label("name").fill(evil)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".picker")).to_contain_text(evil)
    expect(page.locator(".dialog")).to_have_count(0)
    page.get_by_role("button", name="New gallery").click()
    page.locator(".dialog").get_by_label("name").fill(evil)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".dialog .refusal")).to_contain_text(f"Gallery {evil!r} exists")
    assert page.locator("img[src=x]").count() == 0


def test_a_large_photo_stays_in_memory(page: Any, tmp_path: Path) -> None:
    # The console can write no file here, not even an unnamed one; see ConsoleProcess, and the test of it below.
    # 28 MB are far beyond what frameworks spool uploads at.
    file = tmp_path / "large.bmp"
    Image.open(io.BytesIO(photo(RED, size=(3200, 3000)))).save(file, "BMP")
    assert file.stat().st_size > 28_000_000
    choose(page, "Choose a photo", file)
    expect(page.locator(".box.known")).to_have_text("ruth · 0.000")


def test_a_photo_larger_than_a_call_is_refused_in_words(page: Any) -> None:
    page.evaluate("oneglance.look(new Blob([new Uint8Array(70 << 20)]))")
    expect(page.locator(".right .refusal").first).to_have_text(
        "The picture is larger than 63 MiB, more than a call carries."
    )


def test_a_file_that_a_console_wrote_would_be_noticed() -> None:
    code = (
        "import sys, tempfile as t; f = t.TemporaryFile(); print(flush=True); sys.stdin.read(1); f.write(b'x' * 99999)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
    assert "OSError: [Errno 27] File too large" in process.communicate("x", timeout=PATIENCE_SECONDS)[1]


def test_a_frame_of_the_camera_is_a_photo(page: Any) -> None:
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("document.querySelector('.camera video')?.videoWidth > 0")
    page.get_by_role("button", name="Take").click()
    expect(page.locator(".look .summary")).to_contain_text("1 face")
    expect(page.locator("dialog.camera")).to_have_count(0)


def test_drawings_are_shown_with_their_candidates(browser: Any, tmp_path: Path) -> None:
    """A real server with a tiny encoder that does not take photos."""
    drawing = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG")
    cwd = tmp_path / "console"
    cwd.mkdir()
    with server_thread(data_dir=tmp_path / "data", models=(pixels_model(tmp_path / "pixels"),)) as server:
        console = ConsoleProcess(server.address, cwd)
        with page_of(browser, console.url) as page:
            expect(page.locator(".look .summary")).to_have_text("No gallery is there yet. Create one first.")
            page.get_by_role("button", name="New gallery").click()
            page.locator(".dialog").get_by_label("name").fill("drawings")
            page.get_by_role("button", name="Create", exact=True).click()
            expect(page.locator(".picker")).to_contain_text("drawings")
            look(page, buffer.getvalue())
            expect(page.locator(".look .summary")).to_have_text("Unknown.")
            page.locator(".enroll").get_by_label("name").fill("alef")
            page.locator(".enroll").get_by_role("button", name="Enroll").click()
            expect(page.locator(".look .summary")).to_have_text("Identified.")
            expect(page.locator(".card .candidate")).to_contain_text("alef")
            open_tab(page, "Threshold")
            expect(page.locator(".tau-words").first).to_contain_text("from what was measured of the model")
            # The model's own calibration is a point: FPIR 1 %, FNIR 50 %.
            expect(page.locator(".at-tau")).to_have_text("At τ 0.5000: FPIR 1 %, FNIR 50 %.")
        assert console.end() == ("", "")


def test_only_its_own_names_and_pages_are_answered(url: str) -> None:
    def status(path: str, **request: Any) -> int:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{url}{path}", **request), timeout=PATIENCE_SECONDS
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert status("/") == 200
    assert status("/", headers={"Sec-Fetch-Site": "none"}) == 200
    assert status("/", headers={"Sec-Fetch-Site": "cross-site"}) == 403  # pages that a website would make
    assert status("/", headers={"Host": "rebound.example"}) == 400  # a website that points its name to 127.0.0.1
    assert status("/pages/00000000-0000-0000-0000-000000000000/photo", data=b"x") == 404


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://{host}.evil.example"])
def test_what_another_origin_asks_is_refused(url: str, origin: str) -> None:
    """A WebSocket isn't held back by the browser's rule of one origin: the server must look."""
    host = url.removeprefix("http://")

    def status(own: bool, path: str, **headers: str) -> int:
        connection = http.client.HTTPConnection(host, timeout=PATIENCE_SECONDS)
        sent = {"Origin": url if own else origin.format(host=host), **headers}
        try:
            connection.request("GET", path, headers=sent)
            return connection.getresponse().status
        finally:
            connection.close()

    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = base64.b64encode(b"x" * 16).decode()
    socket_io = "/_nicegui_ws/socket.io/?EIO=4&transport="
    assert status(False, f"{socket_io}websocket", **upgrade) == 403
    assert status(False, f"{socket_io}polling") == 403
    assert status(False, "/") == 403
    assert status(True, f"{socket_io}websocket", **upgrade) == 101
    assert status(True, "/") == 200


def test_a_page_of_another_origin_gets_nowhere_in_a_real_browser(browser: Any, url: str, tmp_path: Path) -> None:
    evil = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    (tmp_path / "index.html").write_text(
        f"""<iframe src="{url}"></iframe><script>
        window.heard = [];
        const socket = new WebSocket("{url.replace("http", "ws")}/_nicegui_ws/socket.io/?EIO=4&transport=websocket");
        socket.onmessage = () => window.heard.push("message");
        socket.onopen = () => window.heard.push("open");
        socket.onclose = () => window.heard.push("closed");
        fetch("{url}/").then((answer) => window.heard.push("page"), () => window.heard.push("no page"));
        </script>"""
    )
    threading.Thread(target=evil.serve_forever, daemon=True).start()
    try:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{evil.server_address[1]}/")
        page.wait_for_function("window.heard.length > 1")
        assert sorted(page.evaluate("window.heard")) == ["closed", "no page"]
        (frame,) = [one for one in page.frames if one != page.main_frame]
        assert "chrome-error" in frame.url or not frame.locator("body *").count()  # it may not be framed
        page.close()
    finally:
        evil.shutdown()
        evil.server_close()


def test_a_server_that_is_not_there_is_said_in_words_and_stop_ends_the_child(browser: Any) -> None:
    console = start_console("127.0.0.1:0", "127.0.0.1:1")
    with page_of(browser, console.url) as page:
        expect(page.locator(".trouble")).to_have_text("The server at 127.0.0.1:1 does not answer.")
    console.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(console.pid, 0)


def test_the_child_dies_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "from oneglance_apps.console.process import start_console; import signal\n"
            "print(start_console('127.0.0.1:0', '127.0.0.1:1').pid, flush=True); signal.pause()",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    until(lambda: not _alive(child))


def test_a_console_that_ends_leaves_the_server_running(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", models=pixels_model(tmp_path / "pixels"), console="127.0.0.1:0") as server:
        tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
        (child,) = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
        os.kill(child, signal.SIGKILL)
        assert server.process.stderr is not None
        assert any("the console ended; the server goes on without it" in line for line in server.process.stderr)
        with Client(server.address) as client:
            assert [model.name for model in client.list_models()] == ["pixels"]
        assert server.terminate()[0] == 0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_console_that_can_not_start_says_why(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = urllib.parse.urlsplit(url).netloc
    with pytest.raises(ConsoleError, match=f"can't serve the console on {taken}: Address already in use"):
        start_console(taken, "127.0.0.1:1")
    with pytest.raises(ConsoleError, match="expected host:port"):
        start_console("8080", "127.0.0.1:1")
    ended = subprocess.run([*COMMAND, "--listen", taken], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConsoleError, match=r"pip install 'oneglance\[console\]'"):
        start_console("127.0.0.1:0", "127.0.0.1:1")


def test_an_address_beyond_loopback_needs_a_word() -> None:
    listen = [*COMMAND, "--listen", "127.0.0.2:0"]
    refused = subprocess.run(listen, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert refused.returncode == 2
    assert "beyond loopback the page needs --insecure" in refused.stderr
    with subprocess.Popen([*listen, "--insecure"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("oneglance console is at http://127.0.0.2:")
        process.terminate()


def test_the_quality_policy_is_shown_with_its_limits_chosen_and_changed(page: Any, fake: FakeServer) -> None:
    open_tab(page, "Threshold")
    part = page.locator(".threshold .quality")
    expect(part).to_contain_text("standard")
    expect(part.locator("tr", has_text="brightness")).to_contain_text("0.05 to 0.94")
    part.locator(".q-select").click()
    page.get_by_role("option", name="strict").click()
    until(lambda: fake.galleries["people"].policy == QUALITY_POLICY_STRICT)
    expect(part.locator("tr", has_text="eyes, pixels")).to_contain_text("at least 15")
    part.locator(".q-select").click()
    page.get_by_role("option", name="off").click()
    until(lambda: fake.galleries["people"].policy == QUALITY_POLICY_OFF)
    expect(part).to_contain_text("Every upright face may be enrolled.")
    open_tab(page, "Look")
    look(page, photo(RED))
    expect(page.locator(".basis")).to_contain_text("off")

    page.get_by_role("button", name="New gallery").click()
    dialog = page.locator(".dialog")
    dialog.get_by_label("name").fill("passes")
    expect(dialog.locator("tr", has_text="sharpness")).to_contain_text("at least 1.9")
    dialog.locator(".quality .q-select").click()
    page.get_by_role("option", name="strict").click()
    expect(dialog.locator("tr", has_text="sharpness")).to_contain_text("at least 5.6")
    page.get_by_role("button", name="Create", exact=True).click()
    until(lambda: "passes" in fake.galleries and fake.galleries["passes"].policy == QUALITY_POLICY_STRICT)
    expect(page.locator(".picker")).to_contain_text("passes")
    open_tab(page, "Threshold")
    expect(part).to_contain_text("strict")
