"""The same contract from Node, Go, a browser and curl: examples/clients, each against a real server."""

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

CLIENTS = Path(__file__).parents[1] / "examples" / "clients"
CHROMIUM = Path("/usr/bin/chromium")
TOLD = ["ada", "unknown", "invalid_argument IMAGE_UNDECODABLE probes[0].image"]


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    """Where the folder of the examples is served."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(CLIENTS)))
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    thread.join()
    web.server_close()


@pytest.fixture(scope="module")
def server(pages: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("clients")
    models = (pixels_model(folder / "pixels"),)
    with server_thread(data_dir=folder / "data", models=models, http="127.0.0.1:0", http_origins=(pages,)) as server:
        yield f"http://{server.http_address}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    for name, number in (("ada.png", 1), ("stranger.png", 7)):
        (folder / name).write_bytes(png(picture(number)))
    return [str(folder / "ada.png"), str(folder / "stranger.png")]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def ran(*command: str, **environment: str) -> list[str]:
    done = subprocess.run(
        command,
        cwd=CLIENTS,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_node(server: str, pictures: list[str]) -> None:
    assert ran(tool("node"), "node.mjs", server, *pictures) == TOLD


def test_go(server: str, pictures: list[str], tmp_path: Path) -> None:
    environment = {"GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off", "CGO_ENABLED": "0"}
    assert ran(tool("go"), "run", "client.go", server, *pictures, **environment) == TOLD


def test_curl(server: str, pictures: list[str]) -> None:
    answers = list(map(json.loads, ran("sh", "curl.sh", server, *pictures) if tool("curl") else []))
    created, enrolled, known, unknown, refused = answers
    assert (created["gallery"]["id"], enrolled["created"]) == ("curl", True)
    assert (known["results"][0]["subjectId"], unknown["results"][0]["subjectId"]) == ("ada", "")
    told = refused["details"][0]["debug"]
    assert f"{refused['code']} {told['reason']} {told['fieldViolations'][0]['field']}" == TOLD[2]


def test_browser(server: str, pages: str, pictures: list[str]) -> None:
    if not CHROMIUM.exists():
        pytest.skip("Debian's chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{pages}/browser.html?server={server}")
        page.set_input_files("#enrolled", pictures[0])
        page.set_input_files("#stranger", pictures[1])
        page.click("#go")
        told = page.wait_for_function("document.getElementById('told').textContent").json_value()
        browser.close()
    assert told.splitlines() == TOLD
