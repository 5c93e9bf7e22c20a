"""The console with many people: searching, changing, many photos at once, what watch tells, and pages for all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oneglance.v1.succession_pb2 import GalleryMove
from oneglance_apps.console.scale import TAU_AT, Scale
from oneglance_apps.console.watch_events import MOST_READ, WatchEvents
from oneglance_apps.console.wording import labels_fault, parse_labels
from oneglance_apps.console.words import Words
from tests.apps.console.browsing import ConsoleProcess, choose, open_tab, page_of, playwright, until
from tests.apps.console.fake_server import FakeServer, photo

expect = playwright.expect
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
TABS = ("Look", "Enroll", "People", "Threshold", "Watch", "Stylize")
EVENT = {"version": 1, "gallery": "people", "source": "gate.mp4", "time": None, "seconds": 12.4}


@pytest.fixture
def page(browser: Any, url: str, fake: FakeServer) -> Iterator[Any]:
    fake.galleries.clear()
    fake.stylizer.reset()
    fake.make("people", ruth=RED, boris=BLUE)
    fake.reads_styles = True
    with page_of(browser, url) as opened:
        yield opened
    fake.reads_styles = False


def file_of(name: str, *colours: tuple[int, int, int]) -> Any:
    return {"name": name, "mimeType": "image/png", "buffer": photo(*colours)}


def test_the_server_is_searched_and_the_last_of_six_thousand_is_scrolled_to(page: Any, fake: FakeServer) -> None:
    fake.make("people", **{f"p{i:04}": GREEN for i in range(6000)})
    fake.galleries["people"].subjects["p5990"].labels["site"] = "berlin"
    open_tab(page, "People")
    expect(page.locator(".people .count")).to_have_text("6,002 subjects")
    expect(page.locator("tbody td.id").first).to_have_text("boris")
    page.locator(".subjects").evaluate("box => { box.scrollTop = box.scrollHeight; }")
    expect(page.locator("tbody tr", has_text="ruth")).to_have_count(1)
    assert page.locator("tbody tr").count() < 60  # only what is in view is in the document
    page.get_by_label("id starts with").fill("p599")
    expect(page.locator(".people .count")).to_have_text("10 subjects")
    expect(page.locator("tbody td.id", has_text="p5999")).to_have_count(1)
    page.get_by_label("with labels").fill("site")
    expect(page.get_by_text("“site” has no “=”: write key=value")).to_be_visible()
    expect(page.locator(".people .count")).to_have_text("10 subjects")  # not searched by half a label
    page.get_by_label("with labels").fill("site=berlin")
    expect(page.locator(".people .count")).to_have_text("1 subject")
    page.get_by_label("id starts with").fill("nobody")
    expect(page.locator(".nobody")).to_contain_text("Take a letter away, or clear a field.")


def test_people_are_merged_and_deleted_where_one_is(page: Any, fake: FakeServer) -> None:
    fake.make("people", **{f"p{i:03}": GREEN for i in range(200)})
    open_tab(page, "People")
    page.locator(".subjects").evaluate("box => { box.scrollTop = 4000; }")
    row = page.locator("tbody tr", has_text="p090")
    row.get_by_role("button", name="Change").click()
    page.get_by_label("merge into").fill("p091")
    page.get_by_role("button", name="Merge").click()
    expect(page.locator(".people .count")).to_have_text("201 subjects")
    expect(page.locator("tbody tr", has_text="p091").locator(".encodings")).to_have_text("2")
    expect(row).to_have_count(0)
    assert page.locator(".subjects").evaluate("box => box.scrollTop") == 4000
    page.locator("tbody tr", has_text="p091").get_by_role("button", name="Delete").click()
    expect(page.locator(".dialog")).to_contain_text("Delete p091?")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".dialog")).to_have_count(0)
    page.locator("tbody tr", has_text="p091").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator(".people .count")).to_have_text("200 subjects")
    assert "p091" not in fake.galleries["people"].subjects


def test_a_gallery_is_deleted_once_its_name_was_typed(page: Any, fake: FakeServer) -> None:
    fake.make("women", greta=GREEN)
    open_tab(page, "People")
    page.get_by_role("button", name="Delete this gallery").click()
    act = page.get_by_role("button", name="Delete the gallery for good")
    expect(act).to_be_disabled()
    page.get_by_label("type people to confirm").fill("peopl")
    expect(act).to_be_disabled()
    page.get_by_label("type people to confirm").fill("people")
    act.click()
    expect(page.locator(".picker")).to_contain_text("women")
    assert list(fake.galleries) == ["women"]


def test_many_photos_are_enrolled_with_an_outcome_each(page: Any, fake: FakeServer) -> None:
    open_tab(page, "Enroll")
    files = [file_of("greta.png", GREEN), file_of("red.png", RED), file_of("group.png", RED, BLUE), file_of("none.png")]
    choose(page, "Choose photos", *files)
    page.get_by_label("labels of all of them").fill("berlin")
    page.get_by_role("button", name="Enroll them").click()
    expect(page.locator(".told", has_text="“berlin” has no “=”")).to_have_count(4)
    page.get_by_label("labels of all of them").fill("site=berlin")
    expect(page.get_by_text("“berlin” has no “=”").first).to_be_visible()
    page.get_by_role("button", name="Enroll them").click()
    expect(page.locator(".many-count")).to_have_text("2 enrolled, 2 refused, of 4")
    row = page.locator(".many-list li")
    expect(row.nth(0)).to_contain_text("greta: enrolled")
    expect(row.nth(1)).to_contain_text("The same person under two names? Then merge them: People, Change.")
    expect(row.nth(2)).to_contain_text("Choose the face that is meant, then enroll again.")
    expect(row.nth(3)).to_contain_text("Choose a photo in which the face is larger, upright and not hidden.")
    assert dict(fake.galleries["people"].subjects["greta"].labels) == {"site": "berlin"}
    # The group photo goes on where a face is chosen.
    row.nth(2).get_by_role("button", name="Choose a face").click()
    expect(page.locator(".box")).to_have_count(2)
    expect(page.locator(".enroll").get_by_label("name")).to_have_value("group")


def test_dropped_photos_are_named_by_their_files_and_stop_ends_it(page: Any, fake: FakeServer) -> None:
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            for (let i = 0; i < 9; i++) data.items.add(new File([`${i}`], `person ${i}.png`, { type: "image/png" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    expect(page.locator(".many-list li")).to_have_count(9)
    expect(page.get_by_label("name for person 8.png")).to_have_value("person 8")
    held: list[Any] = []
    page.route("**/enroll?*", lambda route: held.append(route))
    page.get_by_role("button", name="Enroll them").click()
    until(page, lambda: len(held) == 4)
    page.get_by_role("button", name="Stop").click()
    for route in held:
        route.continue_()
    expect(page.locator(".many-count")).to_have_text("0 enrolled, 4 refused, of 9")
    expect(page.get_by_role("button", name="Enroll them")).to_be_visible()
    assert len(held) == 4
    expect(page.locator("li[data-state=waiting]")).to_have_count(5)


def test_somebody_known_already_is_told_before_enrolling(page: Any) -> None:
    choose(page, "Choose a photo", file_of("a.png", RED))
    expect(page.locator(".box.known")).to_have_count(1)
    page.locator(".enroll").get_by_label("name").fill("rut")
    expect(page.locator(".enroll .warning")).to_have_text(
        "By τ this is ruth already (0.0000). As rut, one person would have two names."
    )
    page.locator(".enroll").get_by_label("name").fill("ruth")
    expect(page.locator(".enroll .warning")).to_have_text("")
    page.locator(".enroll").get_by_label("labels").fill("team")
    page.locator(".enroll").get_by_role("button", name="Enroll").click()
    expect(page.get_by_text("“team” has no “=”: write key=value")).to_be_visible()
    expect(page.locator(".outcome")).to_be_empty()


def test_labels_are_read_or_refused_in_words() -> None:
    say = Words("en")
    assert parse_labels(say, " a=1, b = x=y ,, c=") == {"a": "1", "b": "x=y", "c": ""}
    assert labels_fault(say, "a=1, =2") == "“=2” has no key before its “=”"
    assert labels_fault(say, "a=1, a=2") == "“a” is there twice, with different values"
    assert labels_fault(say, None) is None


def test_tau_stands_still_on_every_scale() -> None:
    for tau in (0.0001, 0.36, 4.0):
        assert Scale(tau).at(tau) == pytest.approx(TAU_AT)
        assert not Scale(tau).beyond(3 * tau)
        assert Scale(tau).beyond(3.01 * tau)
    assert Scale(-0.2).at(-0.2) == pytest.approx(TAU_AT)  # by margin
    assert (Scale(0.36).at(-1), Scale(0.36).at(100)) == (0, 1)
    assert Scale(None).at(2) == 0.5


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps({**EVENT, **event}) + "\n" for event in events)


def test_events_are_followed_through_whatever_happens_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    followed = WatchEvents(file)
    followed.read()
    assert not followed.is_there
    whole = lines({"kind": "identified", "subject_id": "ada"})
    file.write_text(whole + "no event\n[]\n" + whole[:20])
    followed.read()
    assert [event["subject_id"] for event in followed.events] == ["ada"]
    with file.open("a") as opened:
        opened.write(whole[20:] + lines({"kind": "heartbeat", "camera": True}))
    followed.read()
    followed.read()
    assert (len(followed.events), list(followed.heartbeats)) == (2, ["gate.mp4"])
    file.write_text(lines({"kind": "left", "subject_id": "bea"}))  # cut
    followed.read()
    assert followed.events[0]["subject_id"] == "bea"
    (tmp_path / "next").write_text("x" * (MOST_READ + 7) + "\n" + lines({"kind": "unknown"}))
    (tmp_path / "next").replace(file)  # rotated, and long
    followed.read()
    assert followed.events[0]["kind"] == "unknown"
    file.unlink()
    followed.read()
    assert not followed.is_there


def test_what_watch_tells_of_the_gallery_is_shown_as_it_comes(browser: Any, fake: FakeServer, tmp_path: Path) -> None:
    fake.galleries.clear()
    fake.make("people", ruth=RED)
    file = tmp_path / "events.jsonl"
    console = ConsoleProcess(fake.address, tmp_path, "--watch-events", str(file))
    with page_of(browser, console.url) as page:
        open_tab(page, "Watch")
        expect(page.locator(".watch .summary")).to_have_text("Nothing was told of this gallery yet")
        expect(page.locator(".watch .command")).to_have_text(f"oneglance watch people 0 --json >> {file}")
        ruth = {"kind": "identified", "subject_id": "ruth", "distance": 0.12}
        file.write_text(lines(ruth, {**ruth, "gallery": "others", "subject_id": "olga"}))
        expect(page.locator(".watch .summary")).to_have_text("Watching")
        expect(page.locator(".events li")).to_have_count(1)
        expect(page.locator(".events li")).to_contain_text("ruth")
        mark = page.locator(".events s").bounding_box()
        bar = page.locator(".events .bar").bounding_box()
        assert abs(mark["x"] + 1 - bar["x"] - bar["width"] / 3) < 1.5
        with file.open("a") as opened:
            opened.write(lines({"kind": "unknown", "nearest": {"subject_id": "<b>"}, "distance": 0.7}))
        expect(page.locator(".events li").first).to_contain_text("<b>")
    console.end()


def test_a_console_without_events_says_how_to_have_some(page: Any) -> None:
    open_tab(page, "Watch")
    expect(page.locator(".watch .summary")).to_have_text("No camera is followed here")
    expect(page.locator(".watch .command")).to_contain_text("oneglance console --watch-events")


def fill_every_tab(page: Any, fake: FakeServer) -> Iterator[str]:
    """Each tab with something in it, and each dialog; gives the name of what is shown."""
    fake.make("people", **{"a" * 128: GREEN, "فاطمة الزهراء": GREEN})
    choose(page, "Choose a photo", file_of("a.png", RED, (0, 200, 255)))
    expect(page.locator(".box")).to_have_count(2)
    yield "Look"
    open_tab(page, "Enroll")
    choose(page, "Choose photos", file_of("x" * 100 + ".png", GREEN), file_of("none.png"))
    page.get_by_role("button", name="Enroll them").click()
    expect(page.locator(".many-count")).to_contain_text("1 enrolled, 1 refused")
    yield "Enroll"
    open_tab(page, "People")
    expect(page.locator("tbody td.id", has_text="فاطمة الزهراء")).to_have_count(1)
    yield "People"
    page.get_by_role("button", name="Delete this gallery").click()
    page.locator(".dialog").wait_for()
    yield "delete a gallery"
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".dialog")).to_have_count(0)
    page.locator("tbody tr", has_text="ruth").get_by_role("button", name="Change").click()
    page.locator(".dialog").wait_for()
    yield "change a subject"
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".dialog")).to_have_count(0)
    open_tab(page, "Threshold")
    expect(page.locator(".figure").first).to_have_text("τ 0.3600")
    yield "Threshold"
    open_tab(page, "Watch")
    yield "Watch"
    open_tab(page, "Stylize")
    expect(page.locator(".style img[src^=data]")).to_have_count(3)
    yield "Stylize"
    choose(page, "Choose a picture", file_of("a.png", GREEN))
    page.get_by_role("button", name="Use it as a style").click()
    page.get_by_role("button", name="Keep this style").click()
    page.locator(".dialog").wait_for()
    yield "keep a style"
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".dialog")).to_have_count(0)
    page.get_by_role("button", name="New gallery").click()
    page.locator(".dialog").wait_for()
    yield "new gallery"


def test_a_phone_shows_every_tab_without_scrolling_sideways(page: Any, fake: FakeServer) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for shown in fill_every_tab(page, fake):
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{shown}: {wide} pixels"


# Of a dialog only that: what is behind it is not to be used.
VIOLATIONS = """axe.run(document.querySelector('.dialog') ?? document).then(
    (told) => told.violations.map((found) => [found.id, found.nodes.map((node) => node.failureSummary)]))"""


def test_axe_finds_nothing_to_object_to(page: Any, fake: FakeServer) -> None:
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-core comes with axe-playwright-python")
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(axe.AXE_FILE_PATH.read_text())
    for shown in fill_every_tab(page, fake):
        page.wait_for_function("!document.querySelector('[class*=-enter-active], [class*=-leave-active]')")
        found = page.evaluate(VIOLATIONS)
        assert found == [], shown


def test_a_gallery_that_moves_to_another_encoder_tells_what_is_left(page: Any, fake: FakeServer) -> None:
    def pick(gallery: str) -> None:
        page.locator(".picker").click()
        page.get_by_role("option", name=gallery, exact=True).click()

    open_tab(page, "Threshold")
    expect(page.locator(".figure").first).to_contain_text("τ")
    expect(page.locator(".move")).to_be_hidden()
    fake.make("people-new", ruth=RED)
    new = fake.galleries["people-new"]
    fake.galleries["people"].move = GalleryMove(other_gallery_id="people-new", answers=True, origin=True)
    new.move = GalleryMove(other_gallery_id="people")
    page.reload()
    open_tab(page, "Threshold")
    line = page.locator(".move")
    expect(line).to_contain_text("Moves to the encoder colour-faces. Still to be enrolled in people-new: 1 subject.")
    expect(line).to_contain_text("oneglance list-left people")
    pick("people-new")
    expect(line).to_contain_text("Waits, with the encoder colour-faces, to take the place of people.")
    fake.make("people-new", boris=BLUE)
    for gallery, answers in (("people", False), ("people-new", True)):
        move = fake.galleries[gallery].move
        assert move is not None
        move.answers = answers
        move.cut_over_time.GetCurrentTime()
    page.reload()
    open_tab(page, "Threshold")
    pick("people")
    expect(line).to_contain_text("to take the place of people-new again. Not in here: 0 subjects.")
    pick("people-new")
    expect(line).to_contain_text("Moved to another encoder; people, with the encoder colour-faces, waits")
    expect(line).to_contain_text("oneglance roll-back people-new")
