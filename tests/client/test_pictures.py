"""What a picture may come as in the Python client, and which arrays are photos."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from oneglance import Client, photo, sound, tensor
from oneglance.client.pictures import photo_bytes
from oneglance.client.requests import example, picture
from tests import face_models
from tests.face_models import WINDOW, encoded
from tests.face_models import face_models as make_models
from tests.running import server_thread

ADA = 1
PIXELS = face_models.photo({(16, 24): ADA})
PNG = encoded(PIXELS)


def decoded(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("pictures")
    models = (make_models(folder / "models"),)
    with (
        server_thread(data_dir=folder / "data", models=models, min_face=10) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", quality_policy="off")
        client.enroll("g", "ada", PNG)
        yield client


def as_file(folder: Path) -> Any:
    (folder / "a.png").write_bytes(PNG)
    return (folder / "a.png").open("rb")


def read_to_its_end() -> io.BytesIO:
    buffer = io.BytesIO(PNG)
    buffer.seek(0, io.SEEK_END)
    return buffer


@pytest.mark.parametrize(
    "content",
    [
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        io.BytesIO(PNG),
        read_to_its_end(),
        Image.fromarray(PIXELS),
        photo(PIXELS, order="RGB"),
        photo(PIXELS[..., ::-1], order="BGR"),  # as OpenCV has it
        photo(np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)]), order="RGB"),
        photo(Image.fromarray(PIXELS), "largest"),
        photo(io.BytesIO(PNG)),
    ],
    ids=lambda content: type(content).__name__,
)
def test_all_of_these_are_the_same_photo(client: Client, content: Any) -> None:
    (result,) = client.identify("g", content).results
    assert result.subject_id == "ada"
    assert (round(result.face.box.x), round(result.face.box.y)) == (16, 24)
    assert len(client.detect_faces(content).photos[0].faces) == 1


def test_an_open_file_and_an_aligned_face(client: Client, tmp_path: Path) -> None:
    with as_file(tmp_path) as file:
        assert client.identify("g", file).results[0].subject_id == "ada"
    (found,) = client.identify("g", PNG).results
    chip = np.asarray(Image.fromarray(PIXELS[24 : 24 + WINDOW, 16 : 16 + WINDOW]).resize((8, 8)))
    result = client.identify("g", tensor(chip), tau=4.0).results[0]
    assert result.subject_id == "ada"
    assert not result.HasField("face")  # nothing was searched
    assert found.HasField("face")


@pytest.mark.parametrize("shape", [(150, 150, 3), (150, 150), (1080, 1920, 4)])
def test_an_array_that_may_be_either_is_refused_with_both_ways_to_say_it(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.uint8)
    for make in (example, lambda a: Client("127.0.0.1:1").identify("g", a)):
        with pytest.raises(TypeError) as caught:
            make(array)
        for words in ("photo(array, order='BGR')", "photo(array, order='RGB')", "tensor(array)"):
            assert words in str(caught.value)
    with pytest.raises(TypeError, match=r"photo\(array"):
        picture(array)
    assert example(tensor(array)).tensor.shape == list(shape)


@pytest.mark.parametrize(
    "array", [np.zeros((8, 8, 1), np.uint8), np.zeros((9, 3), np.float32), np.zeros((2, 3, 4, 1), np.uint8)]
)
def test_other_arrays_are_inputs_of_the_encoder(array: np.ndarray[Any, Any]) -> None:
    assert example(array).tensor.shape == list(array.shape)


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4]))), st.booleans())
def test_the_pixels_arrive_as_they_are(pixels: np.ndarray[Any, Any], reverse: bool) -> None:
    given_order = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if reverse and pixels.shape[2] > 1 else pixels
    seen = decoded(photo_bytes(given_order, "BGR" if reverse else "RGB"))
    assert np.array_equal(seen.reshape(pixels.shape), pixels)


def test_what_is_no_photo_is_refused() -> None:
    with pytest.raises(ValueError, match="OpenCV"):
        photo(PIXELS)
    with pytest.raises(ValueError, match="OpenCV"):
        photo(PIXELS, order="rgb")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="uint8"):
        photo(PIXELS / 255.0, order="RGB")
    for shape in ((2, 2, 2), (3,), (0, 5), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="a photo is an array"):
            photo(np.zeros(shape, np.uint8), order="RGB")
    with pytest.raises(ValueError, match="a file says it itself"):
        photo(PNG, order="RGB")
    with pytest.raises(TypeError, match="opened for bytes"):
        example(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        example(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        sound(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_pillow_images_of_every_mode(mode: str) -> None:
    image = Image.fromarray(PIXELS)
    made = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    seen = decoded(example(made).image)
    assert seen.shape[:2] == PIXELS.shape[:2]


@pytest.mark.parametrize("mode", ["I", "F", "I;16B"])
def test_pillow_images_that_do_not_say_what_is_white_are_refused(mode: str) -> None:
    with pytest.raises(TypeError, match="which of its values is white"):
        example(Image.new(mode, (8, 8)))


def test_a_pillow_image_keeps_how_it_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Image.open(io.BytesIO(encoded(PIXELS, "JPEG", exif=exif)))
    assert Image.open(io.BytesIO(example(opened).image)).getexif()[0x0112] == 6


def test_sounds_from_files() -> None:
    wave = b"RIFF\0\0\0\0WAVE"
    assert example(io.BytesIO(wave)).sound == wave
    assert sound(bytearray(wave)).sound == wave
