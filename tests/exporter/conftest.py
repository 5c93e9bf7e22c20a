"""Small worlds for the exporter's tests: invented alphabets on disk, a run, a model, and real data where it is."""

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance_core.glyphs import alphabet
from oneglance_exporter.cli import main
from tests.exporter.small_runs import Cli, train_arguments


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def write_alphabets(path: Path, seeds: range, characters: int, drawings: int) -> Path:
    """A zip ``top/alphabet-<seed>/<name>/<drawing>.png`` of invented characters."""
    with zipfile.ZipFile(path, "w") as archive:
        for seed in seeds:
            for subject in alphabet(seed, characters, drawings):
                for i, drawing in enumerate(subject.drawings):
                    archive.writestr(f"top/alphabet-{seed}/{subject.name}/{i:02d}.png", png(drawing))
    return path


@pytest.fixture(scope="session")
def drawings_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two alphabets of six characters, five drawings each."""
    return write_alphabets(tmp_path_factory.mktemp("drawings") / "drawings.zip", range(100, 102), 6, 5)


@pytest.fixture(scope="session")
def heldout_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two other alphabets of the same layout."""
    return write_alphabets(tmp_path_factory.mktemp("heldout") / "heldout.zip", range(200, 202), 6, 5)


@pytest.fixture(scope="session")
def omniglot(data_folder: Path) -> Path:
    """The folder of Omniglot's zips."""
    folder = data_folder / "omniglot"
    if not (folder / "images_validation.zip").is_file():
        pytest.skip(f"no Omniglot in {folder}; set ONEGLANCE_DATA to the folder that holds omniglot/")
    return folder


@pytest.fixture(scope="session")
def cli() -> Cli:
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, drawings_zip: Path, cli: Cli) -> Path:
    """A run folder after six steps of training."""
    run = tmp_path_factory.mktemp("runs") / "small"
    assert cli(*train_arguments(drawings_zip, run, steps=6)) == 0
    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, small_run: Path, cli: Cli) -> Path:
    """The model folder of ``small_run``, without a threshold. Not to be written to."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    arguments = ["export", "--run", small_run, "--out", folder, "--name", "tiny", "--license", "MIT"]
    assert cli(*arguments, "--description", "a test's") == 0
    return folder
