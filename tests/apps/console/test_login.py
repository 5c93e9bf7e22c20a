"""The console of a server that wants credentials: one logs in with an API key, and all is done with that."""

import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from oneglance import Client
from oneglance_server.access.api_keys import ApiKeys
from oneglance_server.shared_files import LocalFiles
from tests.apps.console.browsing import ConsoleProcess, playwright
from tests.models import pixels_model
from tests.running import server_thread
from tests.server.access.callers import ADMIN, grant, key_of
from tests.waiting import PATIENCE_SECONDS, until

expect = playwright.expect


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], Path]]:
    """The console's URL, keys of an administrator and of a guest, and the data directory."""
    folder = tmp_path_factory.mktemp("login")
    (folder / "policy.toml").write_text(ADMIN + grant(["key:guest"], ["hall"], ["identify"]))
    found = {name: key_of(folder / "data", name) for name in ("admin", "guest", "gone")}
    with server_thread(
        data_dir=folder / "data", models=(pixels_model(folder / "pixels"),), policy=str(folder / "policy.toml")
    ) as server:
        with Client(server.address, token=found["admin"]) as admin:
            admin.create_gallery("hall")
            admin.create_gallery("vault")
        console = ConsoleProcess(server.address, folder)
        yield console.url, found, folder / "data"
        console.end()


def asked(url: str, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_SECONDS)) as connection:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        answer.read()
        return answer


def logged_in(url: str, key: str, **headers: str) -> http.client.HTTPResponse:
    form = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    return asked(url, "POST", "/login", urlencode({"key": key}), **form)


def test_one_sees_what_ones_key_may_see_until_one_logs_out(
    browser: Any, keys: tuple[str, dict[str, str], Path]
) -> None:
    url, found, _ = keys
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_SECONDS)
    page.goto(url)
    for wrong in ("og_wrong", "Bearer \u00e9"):
        page.get_by_label("API key").fill(wrong)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("This key or token")
    page.get_by_label("API key").fill(found["guest"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("tab", name="Look").wait_for()
    expect(page.get_by_text("key:guest")).to_be_visible()
    page.locator(".picker").click()
    page.get_by_role("option", name="hall").wait_for()
    assert page.get_by_role("option").count() == 1  # not the vault
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie + JSON.stringify({...localStorage})").find(found["guest"]) == -1
    assert found["guest"] not in page.content()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("API key").wait_for()
    context.add_cookies([cookie])
    page.goto(url)
    page.get_by_label("API key").wait_for()  # the cookie of before is worth nothing
    context.close()


def test_a_key_that_was_revoked_has_to_log_in_again(keys: tuple[str, dict[str, str], Path]) -> None:
    url, found, data_dir = keys
    cookie = str(logged_in(url, found["gone"]).headers["Set-Cookie"]).split(";")[0]
    assert b"API key" not in _page(url, cookie)
    file = ApiKeys(LocalFiles(data_dir))
    file.revoke(next(key.id for key in file.all() if key.name == "gone"))
    until(lambda: b"API key" in _page(url, cookie))
    assert logged_in(url, found["gone"]).status == 401


def _page(url: str, cookie: str) -> bytes:
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_SECONDS)) as connection:
        connection.request("GET", "/", headers={"Cookie": cookie})
        return connection.getresponse().read()


def test_what_comes_from_elsewhere_is_refused(keys: tuple[str, dict[str, str], Path]) -> None:
    url, found, _ = keys
    assert logged_in(url, found["guest"], Origin="http://evil.example").status == 403
    assert asked(url, "POST", "/logout", Origin="http://evil.example").status == 403
    assert logged_in(url, "x" * 100_000).status == 413
    for wrong in ("", "Bearer \u00e9", "a\nb", "x\0"):
        assert logged_in(url, wrong).status == 400
    good = logged_in(url, found["guest"], Origin=url)
    assert (good.status, good.headers["Location"]) == (303, "/")
    assert "HttpOnly" in str(good.headers["Set-Cookie"])
    policy = str(asked(url, "GET", "/").headers["Content-Security-Policy"])
    assert "default-src 'none'" in policy


def test_a_page_is_of_the_session_that_opened_it(keys: tuple[str, dict[str, str], Path]) -> None:
    url, found, _ = keys
    one, other = (str(logged_in(url, found[name]).headers["Set-Cookie"]).split(";")[0] for name in ("admin", "guest"))
    content = _page(url, one).decode()
    page_id = content.split('oneglance.page = "')[1].split('"')[0]
    body = {"Cookie": one, "Content-Length": "0"}
    assert asked(url, "POST", f"/pages/{page_id}/measure?pictures=0", **body).status == 204
    for cookie in (other, "x=y"):
        assert asked(url, "POST", f"/pages/{page_id}/measure?pictures=0", **{**body, "Cookie": cookie}).status == 404
