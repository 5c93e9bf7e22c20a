"""What the exporter measures is what the server serves, bit for bit: one file, `oneglance-exporter encode` on one side,
Encode of a real server on the other, with encoders whose encodings are the very values they were given."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance import Client, photo
from oneglance_core.manifests import InputSpec
from oneglance_exporter.cli import main
from tests.face_models import face_models
from tests.face_models import photo as photo_of
from tests.models import values_model
from tests.pictures import png
from tests.running import server_thread

Color = Literal["gray", "rgb"]
Filter = Literal["box", "bilinear"]
SPECS: list[tuple[Color, Filter]] = list(itertools.product(("gray", "rgb"), ("box", "bilinear")))
TURNED = Image.Exif()
TURNED[0x0112] = 6
_COARSE = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
RGBA = np.kron(_COARSE, np.ones((11, 13, 1), np.uint8))  # edges that every filter answers in its own way
RGB, GRAY = RGBA[..., :3], RGBA[..., 0]
DEEP = GRAY.astype(np.uint16) * 257 - GRAY // 3


def saved(array: npt.NDArray[Any], format: str, mode: str | None = None, **options: Any) -> bytes:
    picture = Image.fromarray(array)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, format, **options)
    return buffer.getvalue()


FILES = {
    "gray.png": saved(GRAY, "PNG"),
    "rgb.png": saved(RGB, "PNG"),
    "palette.png": saved(RGB, "PNG", "P"),
    "palette-alpha.png": saved(RGB, "PNG", "P", transparency=3),
    "alpha.png": saved(RGBA, "PNG"),
    "gray-alpha.png": saved(RGBA, "PNG", "LA"),
    "deep.png": saved(DEEP, "PNG"),
    "one-bit.png": saved(GRAY, "PNG", "1"),
    "turned.png": saved(RGB, "PNG", exif=TURNED),
    "small.png": saved(RGB[5:30:11, 6::13], "PNG"),
    "gray.jpg": saved(GRAY, "JPEG"),
    "rgb.jpg": saved(RGB, "JPEG"),
    "cmyk.jpeg": saved(RGB, "JPEG", "CMYK"),
    "turned.JPG": saved(RGB, "JPEG", exif=TURNED),
    "large.jpg": saved(np.kron(RGB, np.ones((12, 12, 1), np.uint8)), "JPEG"),  # decoded at a smaller scale
    "large-turned.jpg": saved(np.kron(RGB, np.ones((12, 12, 1), np.uint8)), "JPEG", exif=TURNED),
    "lossless.webp": saved(RGB, "WEBP", lossless=True),
    "lossy-alpha.webp": saved(RGBA, "WEBP"),
    "turned.webp": saved(RGB, "WEBP", exif=TURNED),
    "rgb.bmp": saved(RGB, "BMP"),
    "palette.bmp": saved(RGB, "BMP", "P"),
    "palette.gif": saved(RGB, "GIF"),
    "rgb.tiff": saved(RGB, "TIFF"),
    "alpha.tif": saved(RGBA, "TIFF"),
    "deep.tif": saved(DEEP, "TIFF"),
    "cmyk.tif": saved(RGB, "TIFF", "CMYK"),
    "float.tif": saved(GRAY.astype(np.float32) / 255, "TIFF"),
    "turned.tif": saved(RGB, "TIFF", exif=TURNED),
    "gray.pgm": saved(GRAY, "PPM"),
    "deep.pgm": saved(DEEP, "PPM"),
    "rgb.ppm": saved(RGB, "PPM"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Color, Filter], Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        (color, resize): values_model(
            root / f"{color}-{resize}",
            InputSpec(
                kind="image", shape=(24, 17, 1 if color == "gray" else 3), dtype="uint8", color=color, resize=resize
            ),
            name=f"{color}-{resize}",
        )
        for color, resize in SPECS
    }


@pytest.fixture(scope="module")
def client(folders: dict[tuple[Color, Filter], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tuple(folders.values())
    with (
        server_thread(data_dir=tmp_path_factory.mktemp("data"), models=models) as server,
        Client(server.address) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    (root / "subject").mkdir()
    for name, content in FILES.items():
        (root / "subject" / name).write_bytes(content)
    return root


def measured(model: Path, pictures: Path, out: Path, *options: str) -> dict[str, npt.NDArray[np.float32]]:
    """By file name, what the exporter encodes."""
    arguments = ["encode", "--model", str(model), "--data", str(pictures), "--out", str(out), *options]
    assert main(arguments) == 0
    with np.load(out) as written:
        names = [Path(str(file).partition(": ")[2]).name for file in written["files"]]
        return dict(zip(names, written["encodings"], strict=True))


@pytest.mark.parametrize(("color", "resize"), SPECS)
def test_every_format_and_mode_through_every_filter(
    folders: dict[tuple[Color, Filter], Path], client: Client, pictures: Path, tmp_path: Path, color: Color,
    resize: Filter,
) -> None:  # fmt: skip
    found = measured(folders[color, resize], pictures, tmp_path / "encodings.npz")
    assert set(found) == set(FILES)  # nothing is left out in silence
    served = client.encode(*FILES.values(), encoder=f"{color}-{resize}").encodings
    for name, encoding in zip(FILES, served, strict=True):
        np.testing.assert_array_equal(found[name], np.array(encoding.values, np.float32), err_msg=name)


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_another_filter_on_one_side_would_be_seen(
    folders: dict[tuple[Color, Filter], Path], pictures: Path, tmp_path: Path, color: Color
) -> None:
    """Every file above tells the filters apart, so the test above fails when one side takes the other filter."""
    box = measured(folders[color, "box"], pictures, tmp_path / "box.npz")
    bilinear = measured(folders[color, "bilinear"], pictures, tmp_path / "bilinear.npz")
    for name in FILES:
        assert not np.array_equal(box[name], bilinear[name]), name


def test_faces_of_photos_are_found_and_aligned_alike(tmp_path: Path) -> None:
    models = face_models(tmp_path / "models")
    folder = tmp_path / "photos" / "subject"
    folder.mkdir(parents=True)
    photos = {f"{i}.png": png(photo_of({(16 + 4 * i, 16): 2 + i})) for i in range(4)}
    for name, content in photos.items():
        (folder / name).write_bytes(content)
    found = measured(models / "encoder", folder.parent, tmp_path / "encodings.npz")
    with (
        server_thread(data_dir=tmp_path / "data", models=(models,)) as server,
        Client(server.address) as connected,
    ):
        examples = [photo(content, face="largest") for content in photos.values()]
        served = connected.encode(*examples).encodings
    for name, encoding in zip(photos, served, strict=True):
        np.testing.assert_array_equal(found[name], np.array(encoding.values, np.float32), err_msg=name)
