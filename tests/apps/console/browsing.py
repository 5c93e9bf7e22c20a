"""A console process, and its pages in a headless Chromium. Importing this module skips the tests where these lack."""

import os
import resource
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import UnidentifiedImageError

from tests.waiting import PATIENCE_SECONDS

pytest.importorskip("nicegui", reason="the console needs NiceGUI")
playwright = pytest.importorskip("playwright.sync_api", reason="the console is tested with playwright")
CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.exists():
    pytest.skip("the console is tested in Debian's chromium, which is not here", allow_module_level=True)
playwright.expect.set_options(timeout=1000 * PATIENCE_SECONDS)
COMMAND = (sys.executable, "-m", "oneglance_apps.cli", "console")


class ConsoleProcess:
    """``oneglance console``; once it serves, the kernel lets it write no file (RLIMIT_FSIZE 0)."""

    def __init__(self, server: str, cwd: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--server", server, "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TMPDIR": str(cwd)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("oneglance console is at http://127.0.0.1:"), self.process.communicate()
        self.url = line.split()[-1]
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0, 0))

    def end(self) -> tuple[str, str]:
        """SIGTERM; returns its stdout after the first line, and its stderr."""
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE_SECONDS)


@contextmanager
def page_of(browser: Any, url: str) -> Iterator[Any]:
    """A page at ``url``. Checks at the end that it contacted no other host, and that no error occurred in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_SECONDS)
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"a script ran: {dialog.message}"))
    page.goto(url)
    page.get_by_role("tab", name="Look").wait_for()
    yield page
    context.close()
    assert not wrong
    assert len(asked) > 5
    elsewhere = [u for u in asked if urllib.parse.urlsplit(u).scheme not in ("data", "blob")]
    assert {urllib.parse.urlsplit(u).hostname for u in elsewhere} == {"127.0.0.1"}


def open_tab(page: Any, name: str) -> None:
    """Open a tab, and wait until it is: a click on the one that was open before would go to nobody until then."""
    tab = page.get_by_role("tab", name=name)
    tab.click()
    playwright.expect(tab).to_have_attribute("aria-selected", "true")


def until(page: Any, holds: Callable[[], object]) -> None:
    """Return once ``holds()``, while the page goes on."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not _holds_by_now(holds):
        assert time.monotonic() < give_up, "it never came to that"
        page.wait_for_timeout(25)


def _holds_by_now(holds: Callable[[], object]) -> object:
    try:
        return holds()
    except UnidentifiedImageError:  # the page gave the picture up for the next one, half loaded
        return False


def choose(page: Any, button: str, *files: Any) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button).click()
    chooser.value.set_files(files[0] if len(files) == 1 else list(files))
