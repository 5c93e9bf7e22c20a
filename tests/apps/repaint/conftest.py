"""A server with a tiny stylizer, ``oneglance stylize`` with it, and a folder of photos."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from oneglance_apps.cli import main
from oneglance_server.app import Server
from tests.apps.repaint.stylizing import Run, noise
from tests.pictures import png
from tests.running import server_thread
from tests.style_models import style_model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("stylize")
    with server_thread(data_dir=root / "data", models=(style_model(root / "tints"),)) as running:
        yield running


@pytest.fixture
def run(server: Server) -> Run:
    return lambda *words: main(["stylize", "--server", server.address, *map(str, words)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven picture files, one of them not a picture; a text; and a hidden picture."""
    root = tmp_path / "photos"
    (root / "a" / "b").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for i in range(4):
        (root / "a" / "b" / f"{i}.png").write_bytes(png(noise(i)))
    (root / "a" / "bad.jpg").write_bytes(b"no picture")
    Image.fromarray(noise(4)).save(root / "4.JPG")
    Image.fromarray(noise(5)).save(root / "5.bmp")
    (root / "notes.txt").write_text("")
    (root / ".hidden" / "6.png").write_bytes(png(noise(6)))
    return root
