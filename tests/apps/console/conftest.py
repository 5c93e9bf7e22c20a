from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps.console.fake_server import FakeServer
from tests.waiting import PATIENCE_SECONDS

# tests.apps.console.browsing is imported where it is needed: it skips whoever imports it.


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:  # type: ignore[abstract]
        yield server


@pytest.fixture(scope="module")
def url(fake: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.apps.console.browsing import ConsoleProcess

    cwd = tmp_path_factory.mktemp("console")
    console = ConsoleProcess(fake.address, cwd)
    yield console.url
    assert console.end() == ("", "")
    assert not list(cwd.iterdir())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from tests.apps.console.browsing import CHROMIUM, playwright

    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=str(CHROMIUM), args=flags, timeout=1000 * PATIENCE_SECONDS)
        yield chromium
        chromium.close()
