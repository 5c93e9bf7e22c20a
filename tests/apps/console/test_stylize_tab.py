"""The Stylize tab in a headless Chromium, with a fake server whose styles are colours, and with a real server."""

import base64
import io
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance.v1.stylization_pb2 import StylizeSettings
from tests.apps.console.browsing import ConsoleProcess, choose, open_tab, page_of, playwright, until
from tests.apps.console.fake_server import FakeServer
from tests.apps.console.fake_stylizer import COLOURS, OTHER_DIGEST, style
from tests.running import server_thread
from tests.style_models import style_model, tinted
from tests.waiting import PATIENCE_SECONDS

expect = playwright.expect
Pixels = npt.NDArray[np.uint8]


def picture(format: str = "PNG", size: tuple[int, int] = (90, 60), colour: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format)
    return buffer.getvalue()


def pixels(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def page(browser: Any, url: str, fake: FakeServer) -> Iterator[Any]:
    """A page with the tab open."""
    fake.stylizer.reset()
    with page_of(browser, url) as opened:
        open_tab(opened, "Stylize")
        opened.locator(".stylize").wait_for()
        yield opened


def paint(page: Any, data: bytes, name: str = "cat.png") -> None:
    choose(page, "Choose a picture", {"name": name, "mimeType": "image/png", "buffer": data})
    settled(page)


def settled(page: Any) -> None:
    page.locator(".after:not(.painting) img[src]").wait_for()


def slide(page: Any, knob: str, share: float) -> int:
    """Click a slider; returns the percentage that it then shows."""
    track, slider = (page.locator(f"{knob} .q-slider{part}") for part in ("__track-container", ""))
    box, before = track.bounding_box(), slider.get_attribute("aria-valuenow")
    track.click(position={"x": share * box["width"], "y": box["height"] / 2})
    expect(slider).not_to_have_attribute("aria-valuenow", before)
    percent = int(slider.get_attribute("aria-valuenow"))
    assert abs(percent - 100 * share) <= 3
    return percent


def asked(settings: StylizeSettings) -> dict[str, float]:
    return {entry.style: entry.weight for entry in settings.styles}


def shown(page: Any) -> Pixels:
    """The stylized picture that the browser shows, as it was received."""
    encoded = page.evaluate(
        """async () => {
            const answer = await fetch(document.querySelector(".after img").src);
            const bytes = new Uint8Array(await answer.arrayBuffer());
            return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
        }"""
    )
    return pixels(base64.b64decode(encoded))


def test_a_picture_is_shown_before_and_after_and_can_be_downloaded(page: Any, fake: FakeServer, tmp_path: Path) -> None:
    expect(page.locator(".style")).to_have_count(3)
    expect(page.locator(".style").nth(1)).to_have_text("A picture of mossmossCC0-1.0")
    expect(page.locator(".download")).to_be_hidden()
    paint(page, picture())
    assert page.evaluate("document.querySelector('.before img').naturalWidth") == 90
    page.wait_for_function("document.querySelector('.after img').naturalWidth === 90")
    before, after = (page.locator(f".{side} img").bounding_box() for side in ("before", "after"))
    assert before["x"] + before["width"] <= after["x"]
    assert before["y"] == after["y"]
    assert (shown(page) == COLOURS["ember"]).all()
    page.locator(".style", has_text="moss").click()
    expect(page.locator(".style.chosen .style-name")).to_have_text("moss")
    expect(page.locator(".origins")).to_contain_text("A picture of moss; invented; CC0-1.0")
    expect(page.locator(".origins")).to_contain_text("tints fcfcfcfcfcfc on FakeExecutionProvider")
    expect(page.locator(".about")).to_contain_text("90 × 60, ")
    until(page, lambda: (shown(page) == COLOURS["moss"]).all())
    assert [asked(settings) for settings in fake.stylizer.requests] == [{"ember": 1.0}, {"moss": 1.0}]
    with page.expect_download() as download:
        page.locator(".download").click()
    assert download.value.suggested_filename == "cat-moss.png"
    download.value.save_as(tmp_path / "saved.png")
    assert (pixels((tmp_path / "saved.png").read_bytes()) == COLOURS["moss"]).all()


def test_styles_have_a_picture_of_their_own(page: Any) -> None:
    """Samples are of the landscape first, then of the picture to stylize."""
    samples = page.locator(".style img[src^='data:image/jpeg']")
    expect(samples).to_have_count(3)
    wide = "Array.from(document.querySelectorAll('.style img'), (image) => image.naturalWidth / image.naturalHeight)"
    assert page.evaluate(wide) == [1.5] * 3
    first = samples.first.get_attribute("src")
    paint(page, picture(size=(60, 60)))
    page.wait_for_function(f"({wide}).every((ratio) => ratio === 1)")
    assert samples.first.get_attribute("src") != first


def test_two_styles_blend_by_a_slider(page: Any, fake: FakeServer) -> None:
    paint(page, picture())
    expect(page.locator(".knob.blend")).to_be_hidden()
    page.locator(".q-toggle", has_text="blend two").click()
    page.locator(".style", has_text="slate").click()
    expect(page.locator(".style.chosen")).to_have_count(2)
    expect(page.locator(".knob.blend")).to_contain_text("ember 50 %, slate 50 %")
    expect(page.locator(".origins")).to_contain_text("A picture of slate")
    until_asked(page, fake, {"ember": 0.5, "slate": 0.5})
    share = slide(page, ".knob.blend", 0.25)
    expect(page.locator(".knob.blend")).to_contain_text(f"ember {100 - share} %, slate {share} %")
    until_asked(page, fake, {"ember": 1 - share / 100, "slate": share / 100})
    mixed = (1 - share / 100) * np.array(COLOURS["ember"]) + share / 100 * np.array(COLOURS["slate"])
    until(page, lambda: np.abs(shown(page) - mixed).max() <= 1)
    # A third one takes the place of the first, and a click on one of them leaves the other.
    page.locator(".style", has_text="moss").click()
    expect(page.locator(".style.chosen")).to_have_text(
        ["A picture of mossmossCC0-1.0", "A picture of slateslateCC0-1.0"]
    )
    page.locator(".style", has_text="slate").click()
    expect(page.locator(".style.chosen .style-name")).to_have_text(["moss"])  # a list: waits while there are two
    expect(page.locator(".knob.blend")).to_be_hidden()
    until_asked(page, fake, {"moss": 1.0})


def until_asked(page: Any, fake: FakeServer, weights: dict[str, float]) -> None:
    requests = fake.stylizer.requests
    until(page, lambda: requests and asked(requests[-1]) == pytest.approx(weights))


def test_a_blend_is_of_one_stylizer(page: Any, fake: FakeServer) -> None:
    fake.stylizer.styles = [style("ember"), style("moss"), style("slate", stylizer="others")]
    open_tab(page, "Look")
    open_tab(page, "Stylize")
    expect(page.locator(".style").last).to_contain_text("stylizer others")
    page.locator(".q-toggle", has_text="blend two").click()
    page.locator(".style", has_text="moss").click()
    expect(page.locator(".style.chosen")).to_have_count(2)
    page.locator(".style", has_text="slate").click()
    expect(page.locator(".style.chosen")).to_have_count(1)
    paint(page, picture())
    assert asked(fake.stylizer.requests[-1]) == {"slate": 1.0}
    assert fake.stylizer.requests[-1].stylizer == OTHER_DIGEST


def test_strength_colours_and_size_are_asked_for(page: Any, fake: FakeServer) -> None:
    paint(page, picture())
    share = slide(page, ".knobs .knob", 0.6)
    expect(page.locator(".knobs .knob")).to_contain_text(f"strength {share} %")
    until(page, lambda: fake.stylizer.requests[-1].strength == pytest.approx(share / 100))
    until(page, lambda: np.abs(shown(page) - share / 100 * np.array(COLOURS["ember"])).max() <= 1)
    assert not fake.stylizer.requests[-1].keep_colors
    page.locator(".q-toggle", has_text="keep colours").click()
    until(page, lambda: fake.stylizer.requests[-1].keep_colors)
    assert fake.stylizer.requests[-1].max_side == 1024
    page.locator(".side").click()
    page.get_by_role("option", name="as it is").click()
    until(page, lambda: fake.stylizer.requests[-1].max_side == 0)
    assert fake.stylizer.requests[-1].stroke_size == 1
    page.locator(".strokes").click()
    page.get_by_role("option", name="0.5 ×").click()
    until(page, lambda: fake.stylizer.requests[-1].stroke_size == 0.5)
    assert fake.stylizer.requests[-1].keep_faces == 0
    page.locator(".q-toggle", has_text="keep faces").click()
    until(page, lambda: fake.stylizer.requests[-1].keep_faces == 1)


def test_faces_can_be_kept_only_where_the_server_finds_them(browser: Any, url: str, fake: FakeServer) -> None:
    fake.stylizer.reset()
    fake.finds_points = False
    try:
        with page_of(browser, url) as page:
            open_tab(page, "Stylize")
            paint(page, picture())
            expect(page.locator(".q-toggle", has_text="keep colours")).to_be_visible()
            expect(page.locator(".q-toggle", has_text="keep faces")).to_be_hidden()
    finally:
        fake.finds_points = True


def test_a_picture_may_be_a_style(browser: Any, url: str, fake: FakeServer) -> None:
    fake.stylizer.reset()
    fake.reads_styles = True
    try:
        with page_of(browser, url) as page:
            open_tab(page, "Stylize")
            button = page.get_by_role("button", name="Use it as a style")
            expect(button).to_be_hidden()
            painting = picture(colour=(200, 10, 60))
            paint(page, painting)
            button.click()
            expect(page.locator(".style")).to_have_count(4)
            expect(page.locator(".style.chosen")).to_contain_text("the style of your picture")
            until(page, lambda: fake.stylizer.requests[-1].styles[0].picture == painting)
            paint(page, picture(), "cat.png")
            until(page, lambda: np.abs(shown(page) - np.array((200, 10, 60))).max() <= 1)
            expect(page.locator(".download")).to_have_attribute("download", "cat-styled.png")
            page.locator(".style", has_text="moss").click()
            until(page, lambda: asked(fake.stylizer.requests[-1]) == {"moss": 1.0})
    finally:
        fake.reads_styles = False


def test_the_style_of_a_picture_is_kept_and_forgotten(browser: Any, url: str, fake: FakeServer) -> None:
    fake.stylizer.reset()
    fake.reads_styles = True
    try:
        with page_of(browser, url) as page:
            open_tab(page, "Stylize")
            keep, forget = (page.get_by_role("button", name=f"{do} this style") for do in ("Keep", "Forget"))
            painting = picture(colour=(200, 10, 60))
            paint(page, painting)
            expect(keep).to_be_hidden()
            page.get_by_role("button", name="Use it as a style").click()
            keep.click()
            dialog = page.get_by_role("dialog")
            dialog.get_by_label("name, of").fill("Oil!")
            dialog.get_by_label("title").fill("A red square")
            dialog.get_by_role("button", name="Keep").click()
            expect(dialog.locator(".refusal")).to_have_text("Has other characters\nType another name.")
            dialog.get_by_label("name, of").fill("red")
            dialog.get_by_role("button", name="Keep").click()
            expect(page.locator(".style.chosen")).to_have_text("A red squareredCC0-1.0")
            expect(page.locator(".style")).to_have_count(4)
            assert fake.stylizer.pictures == {"red": painting}
            expect(keep).to_be_hidden()
            until(page, lambda: asked(fake.stylizer.requests[-1]) == {"red": 1.0})
            forget.click()
            page.get_by_role("dialog").get_by_role("button", name="Keep").click()
            expect(page.get_by_role("dialog")).to_have_count(0)
            forget.click()
            page.get_by_role("dialog").get_by_role("button", name="Forget this style").click()
            expect(page.locator(".style")).to_have_count(3)
            expect(page.locator(".style.chosen .style-name")).to_have_text("ember")
            expect(forget).to_be_hidden()
            assert [one.name for one in fake.stylizer.styles] == list(COLOURS)
    finally:
        fake.reads_styles = False


def test_a_new_choice_cancels_the_call_before(page: Any, fake: FakeServer) -> None:
    fake.stylizer.slow = threading.Event()
    choose(page, "Choose a picture", {"name": "a.png", "mimeType": "image/png", "buffer": picture()})
    until(page, lambda: len(fake.stylizer.requests) == 1)
    page.locator(".style", has_text="moss").click()
    until(page, lambda: fake.stylizer.cancelled == 1)
    until(page, lambda: len(fake.stylizer.requests) == 2)
    fake.stylizer.slow.set()
    fake.stylizer.slow = None
    expect(page.locator(".download")).to_have_attribute("download", "a-moss.png")
    assert (shown(page) == COLOURS["moss"]).all()
    assert [asked(settings) for settings in fake.stylizer.requests] == [{"ember": 1.0}, {"moss": 1.0}]
    expect(page.locator(".after.painting")).to_have_count(0)


def test_a_closed_page_cancels_its_call(browser: Any, url: str, fake: FakeServer) -> None:
    fake.stylizer.reset()
    fake.stylizer.slow = threading.Event()
    with page_of(browser, url) as page, page_of(browser, url) as other:
        open_tab(page, "Stylize")
        choose(page, "Choose a picture", {"name": "a.png", "mimeType": "image/png", "buffer": picture()})
        until(page, lambda: len(fake.stylizer.requests) == 1)
        page.close()
        until(other, lambda: fake.stylizer.cancelled == 1)
    fake.stylizer.slow.set()


def test_a_picture_that_is_overtaken_on_its_way_is_not_shown_beside_the_next(page: Any, fake: FakeServer) -> None:
    held: list[Any] = []
    over: list[Any] = []
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: over.append(request.url))
    page.route("**/picture?name=slow.png", lambda route: held.append(route))
    choose(page, "Choose a picture", {"name": "slow.png", "mimeType": "image/png", "buffer": picture()})
    page.wait_for_function("document.querySelector('.before img').naturalWidth === 90")
    until(page, lambda: held)
    paint(page, picture(size=(30, 40)), "next.png")
    for route in held:
        route.continue_()
    until(page, lambda: any("name=slow.png" in address for address in over))
    # What would come of it comes before what is asked for now.
    page.locator(".style", has_text="moss").click()
    expect(page.locator(".download")).to_have_attribute("download", "next-moss.png")
    assert [asked(settings) for settings in fake.stylizer.requests] == [{"ember": 1.0}, {"moss": 1.0}]


def test_an_upload_that_breaks_off_is_no_trouble(page: Any, url: str) -> None:
    """The fixture checks at its end that nothing was printed on stderr."""
    host, port = url.removeprefix("http://").split(":")
    path = page.evaluate("oneglance.url('picture')")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nhalf".encode())
    paint(page, picture())


def test_a_server_without_a_stylizer_says_so(page: Any, fake: FakeServer) -> None:
    words = "This server has no stylizer, so there is nothing to repaint pictures with."
    expect(page.locator(".no-stylizer")).to_be_hidden()
    for fake.stylizer.styles, fake.stylizer.unimplemented in (([], False), ([style("ember")], True)):
        page.reload()
        open_tab(page, "Stylize")
        expect(page.locator(".no-stylizer")).to_be_visible()
        expect(page.locator(".no-stylizer")).to_contain_text(words)
        expect(page.locator(".stylize")).to_be_hidden()
    # One that was started anew, with one.
    fake.stylizer.unimplemented = False
    open_tab(page, "Look")
    open_tab(page, "Stylize")
    expect(page.locator(".style")).to_have_count(1)
    expect(page.locator(".no-stylizer")).to_be_hidden()
    # And one that was started anew, without.
    fake.stylizer.styles = []
    choose(page, "Choose a picture", {"name": "a.png", "mimeType": "image/png", "buffer": picture()})
    expect(page.locator(".no-stylizer")).to_be_visible()
    expect(page.locator(".no-stylizer")).to_contain_text(words)


def test_what_can_not_be_read_is_said_in_words(page: Any) -> None:
    paint(page, picture())
    choose(page, "Choose a picture", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator(".stylize .refusal")).to_have_text("Not a picture\nSave it as JPEG or PNG, and choose that.")
    expect(page.locator(".download")).to_be_hidden()
    expect(page.locator(".before .undrawn-note")).to_be_visible()
    page.evaluate("oneglance.paint(new Blob([new Uint8Array(70 << 20)]))")
    expect(page.locator(".stylize .refusal")).to_have_text(
        "The picture is larger than 63 MiB, more than a call carries."
    )
    paint(page, picture("JPEG"))
    expect(page.locator(".stylize .refusal")).to_have_text("")


def test_a_picture_dropped_here_is_repainted_not_looked_at(page: Any, fake: FakeServer) -> None:
    data = page.evaluate_handle(
        """(text) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], "dropped.webp"));
            return data;
        }""",
        base64.b64encode(picture("WEBP")).decode(),
    )
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    settled(page)
    assert page.locator(".download").get_attribute("download") == "dropped-ember.webp"
    assert page.locator(".stage").get_attribute("data-state") == "empty"


def test_a_frame_of_the_camera_is_repainted(page: Any, fake: FakeServer) -> None:
    page.get_by_role("button", name="Take one").click()
    page.wait_for_function("document.querySelector('.camera video')?.videoWidth > 0")
    page.get_by_role("button", name="Take", exact=True).click()
    settled(page)
    assert page.locator(".download").get_attribute("download") == "picture-ember.jpg"


def test_titles_and_names_are_text(page: Any, fake: FakeServer) -> None:
    evil = "<img src=x onerror=alert(1)>{{7*7}}"
    fake.stylizer.styles = [style("ember", evil, evil)]
    open_tab(page, "Look")
    open_tab(page, "Stylize")
    expect(page.locator(".style .art").first).to_have_text(evil)
    paint(page, picture(), name='a" onload="alert(1)<b>.png')
    expect(page.locator(".origins")).to_contain_text(f"{evil}; invented; {evil}")
    assert page.locator(".download").get_attribute("download") == 'a" onload="alert(1)<b>-ember.png'
    assert page.locator("img[src=x]").count() == 0


def test_what_came_out_is_only_at_its_own_address(page: Any, url: str) -> None:
    def status(path: str) -> int:
        try:
            with urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE_SECONDS) as answer:
                assert answer.headers["Cache-Control"] == "no-store"
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    paint(page, picture())
    path, _, number = page.locator(".download").get_attribute("href").rpartition("/")
    assert status(f"{path}/{number}") == 200
    assert status(f"{path}/{int(number) + 1}") == 404
    assert status(f"/pages/00000000-0000-0000-0000-000000000000/stylized/{number}") == 404
    page.locator(".style", has_text="moss").click()
    expect(page.locator(".download")).not_to_have_attribute("href", f"{path}/{number}")
    assert status(f"{path}/{number}") == 404


def test_the_real_server_repaints_as_its_stylizer_computes(browser: Any, tmp_path: Path) -> None:
    given = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(given).save(buffer, "PNG")
    cwd = tmp_path / "console"
    cwd.mkdir()
    with server_thread(data_dir=tmp_path / "data", models=(style_model(tmp_path / "tints"),)) as server:
        console = ConsoleProcess(server.address, cwd)
        with page_of(browser, console.url) as page:
            open_tab(page, "Stylize")
            expect(page.locator(".style .art")).to_have_text(["Ember", "Moss", "Slate", "Inverse"])
            paint(page, buffer.getvalue())
            expected, _ = tinted(given, [1, 0, 0, 0])
            assert np.abs(shown(page) - expected).max() <= 1
            expect(page.locator(".origins")).to_contain_text("Ember; invented; CC0-1.0")
            expect(page.locator(".style img[src^=data]")).to_have_count(4)
        assert console.end() == ("", "")
