import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from oneglance import Client
from oneglance_index import acting
from oneglance_server.app import Server
from oneglance_server.logs import configure_logs
from tests.models import pixels_model, signal_model
from tests.running import server_thread
from tests.style_models import style_model
from tests.waiting import PATIENCE_SECONDS

PROJECT = Path(__file__).resolve().parents[1]

# A shell has what it runs in the background ignore Ctrl-C, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's, not the code's.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    configure_logs("text", "error")


@pytest.fixture(autouse=True)
def _nobody_acts() -> Iterator[None]:
    """A test that leaves somebody acting makes others fail, or pass, by their order."""
    yield
    assert acting.get() is None, "use tests.acting.acting_as"


@pytest.fixture(scope="session", autouse=True)
def _no_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Commands keep nothing in the home of who runs the tests; nor do the processes that tests start."""
    home = tmp_path_factory.mktemp("home")
    os.environ["XDG_DATA_HOME"] = str(home)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Where real data may be: env ONEGLANCE_DATA, or ../shared/data beside the project."""
    return Path(os.environ.get("ONEGLANCE_DATA", PROJECT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def lfw(data_folder: Path) -> dict[str, list[bytes]]:
    """Ten people of LFW, ten photos of each."""
    path = data_folder / "faces" / "lfw100.zip"
    if not path.is_file():
        pytest.skip(f"no {path}; set ONEGLANCE_DATA to the folder that holds faces/")
    people: dict[str, list[bytes]] = {}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".jpg"):
                people.setdefault(name.split("/")[0], []).append(archive.read(name))
    return people


@pytest.fixture(scope="session")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of ``oneglance-exporter import dlib-faces``."""
    from oneglance_exporter.errors import WeightsError
    from oneglance_exporter.imports.dlib_faces import import_dlib_faces, installed_weights

    try:
        installed_weights()
    except WeightsError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("faces")
    import_dlib_faces(folder)
    return folder


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
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as connected:
        yield connected


@pytest.fixture
def gallery(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty gallery of the pixels model."""
    name = request.node.name[:100]
    client.create_gallery(name, encoder="pixels")
    yield name
    client.delete_gallery(name)
