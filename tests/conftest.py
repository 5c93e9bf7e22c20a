import os
import zipfile
from pathlib import Path

import pytest

from oneglance_server.logs import configure_logs

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    configure_logs("text", "error")


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
