"""The words of the console: catalogues that fit each other, and no text in the page that is in none of them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from oneglance_apps.console import words as module
from oneglance_apps.console.words import LANGUAGES, PSEUDO, Message, Words, catalogue, choose_language
from tests.apps.console.browsing import page_of, playwright
from tests.apps.console.fake_server import FakeServer, photo

expect = playwright.expect
TABS = ("look", "enroll", "people", "threshold", "watch", "stylize")
RED = (255, 0, 0)


def forms(message: Message) -> list[str]:
    return [message] if isinstance(message, str) else list(message.values())


def places(message: Message) -> set[str]:
    return {name for form in forms(message) for _, name, _, _ in Formatter().parse(form) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_the_same_with_the_same_places(language: str) -> None:
    english, other = catalogue("en"), catalogue(language)
    assert other.keys() == english.keys()
    assert {key: places(message) for key, message in other.items()} == {key: places(m) for key, m in english.items()}
    assert all(form.strip() for message in other.values() for form in forms(message))


def test_every_key_that_is_asked_for_is_there() -> None:
    folder = Path(module.__file__).parent
    sections = {key.partition(".")[0] for key in catalogue("en")}
    asked = {
        node.value
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"[a-z]+\.[A-Za-z_]+", node.value) and node.value.partition(".")[0] in sections
    } - {"enroll.js", "page.js", "page.css"}
    asked |= {f"js.{key}" for file in folder.glob("*.js") for key in re.findall(r"words\.(\w+)", file.read_text())}
    assert len(asked) > 150
    assert asked <= catalogue("en").keys()


def test_the_language_is_the_chosen_one_or_the_first_that_is_asked_for() -> None:
    for chosen, accepted, language in (
        (None, "de-AT,de;q=0.9,en;q=0.8", "de"),
        (None, "fr, zh-CN;q=0.8, en;q=0.5", "zh"),
        (None, "en;q=0.5, de;q=0.9", "de"),
        (None, "fr", "en"),
        (None, "de;q=0", "en"),
        (None, "de;q=much, \x00", "en"),
        (None, "", "en"),
        ("zh", "de", "zh"),
        ("../../etc", "de", "de"),
    ):
        assert choose_language(chosen, accepted).language == language


def test_numbers_and_plurals_are_of_the_language() -> None:
    assert Words("en")("count.subjects", n=1) == "1 subject"
    assert Words("en")("count.subjects", n=12000) == "12,000 subjects"
    assert Words("de")("count.subjects", n=12000) == "12\N{NARROW NO-BREAK SPACE}000 Personen"
    assert Words("zh")("count.faces", n=1) == "1 张人脸"
    assert Words("en")("dialog.type", name="{0} {x}") == "type {0} {x} to confirm"


@pytest.fixture
def pseudo_page(browser: Any, url: str, fake: FakeServer) -> Iterator[Any]:
    fake.galleries.clear()
    fake.stylizer.reset()
    fake.make("1", **{"2": RED})
    fake.reads_styles = True
    with page_of(browser, url) as page:
        page.context.add_cookies([{"name": module.LANGUAGE_COOKIE, "value": PSEUDO, "url": url}])
        page.reload()
        page.get_by_role("tab").first.wait_for()
        yield page
    fake.reads_styles = False


TEXTS = """() => {
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        if (node.nodeType === Node.TEXT_NODE) {
            const own = "script, style, noscript, .q-icon, .nicegui-error-popup";
            if (!node.parentElement.closest(own)) found.push(node.data);
        } else for (const name of ["aria-label", "title", "alt", "placeholder"]) {
            if (node.getAttribute(name)) found.push(node.getAttribute(name));
        }
    }
    return found;
}"""
# Names of things, the same in all languages; and what the server says. NiceGUI translates its popups itself.
OWN = re.compile(
    r"oneglance( watch| console)?|English|colour-faces|FakeExecutionProvider|[0-9a-f]{12}|FPIR|FNIR|UTC|KiB|nearest"
    r"|ember|moss|slate|A picture of|CC0-1\.0|a\.png|events\.jsonl|--[a-z-]+|e\d+|No face was found|2 faces were found"
)


def escaped(page: Any) -> list[str]:
    """Texts with letters that stand in no catalogue."""
    texts = set(page.evaluate(TEXTS))
    while any("⟦" in text for text in texts):  # messages in messages
        texts = {re.sub(r"⟦[^⟦⟧]*⟧", "", text) for text in texts}
    return sorted(text for text in texts if re.search(r"[A-Za-z]{2}", OWN.sub("", text)))


def open_tab(page: Any, tab: str) -> None:
    page.get_by_role("tab").nth(TABS.index(tab)).click()


def test_no_text_escapes_the_catalogue(pseudo_page: Any) -> None:
    page = pseudo_page
    for tab in TABS:
        open_tab(page, tab)
        page.locator(".q-tab--active").nth(0).wait_for()
        assert escaped(page) == [], tab
    open_tab(page, "look")
    with page.expect_file_chooser() as chooser:
        page.locator(".look .actions button").first.click()
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": photo(RED, (0, 255, 0))})
    expect(page.locator(".box")).to_have_count(2)
    assert escaped(page) == []
    open_tab(page, "enroll")
    with page.expect_file_chooser() as chooser:
        page.locator(".many .actions button").first.click()
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": photo()})
    page.locator(".many-start").click()
    page.locator("li[data-state=refused]").wait_for()
    assert escaped(page) == []
    open_tab(page, "people")
    page.locator(".subjects button.change").click()
    page.locator(".dialog").wait_for()
    assert escaped(page) == []
    page.keyboard.press("Escape")
    expect(page.locator(".dialog")).to_have_count(0)
    page.locator(".danger button").click()
    page.locator(".dialog").wait_for()
    assert escaped(page) == []
    page.keyboard.press("Escape")
    expect(page.locator(".dialog")).to_have_count(0)
    open_tab(page, "stylize")
    with page.expect_file_chooser() as chooser:
        page.locator(".stylize .actions button").first.click()
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": photo()})
    as_style, keep = (page.locator(".stylize .actions button").nth(at) for at in (2, 3))
    as_style.click()
    keep.click()
    page.locator(".dialog").wait_for()
    assert escaped(page) == []


def test_the_page_speaks_what_the_browser_asks_for_until_another_is_picked(browser: Any, url: str) -> None:
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    page.goto(url)
    expect(page.get_by_role("tab", name="Ansehen")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "de"
    page.locator(".language").click()
    page.get_by_role("option", name="中文").click()
    expect(page.get_by_role("tab", name="查看")).to_be_visible()
    page.reload()
    expect(page.get_by_role("tab", name="查看")).to_be_visible()
    context.close()
