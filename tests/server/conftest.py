import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance import Client
from oneglance_server.app import Server
from tests.models import SIDE, pixels_model, signal_model
from tests.running import server_thread
from tests.style_models import style_model


def png(array: npt.NDArray[Any], **options: Any) -> bytes:
    """A PNG of uint8 [H, W], [H, W, 1] or [H, W, C]."""
    picture = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def picture(seed: int) -> npt.NDArray[np.uint8]:
    """A random picture for the pixels model, uint8 [8, 8, 1]; the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the pixels model (calibrated) and the signal model (not)."""
    folder = tmp_path_factory.mktemp("models")
    return pixels_model(folder / "pixels"), signal_model(folder / "signal")


@pytest.fixture(scope="session")
def tints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny stylizer."""
    return style_model(tmp_path_factory.mktemp("tints"))


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_thread(data_dir=tmp_path_factory.mktemp("data"), models=models) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def gallery(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty gallery of the pixels model."""
    name = request.node.name[:100]
    client.create_gallery(name, encoder="pixels")
    yield name
    client.delete_gallery(name)
