"""The second table of docs/errors.md, row by row: odd pictures, given to an encoder of faces through a real server."""

import io
import re
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, TiffImagePlugin

from oneglance import Client, OneglanceError
from tests import face_models
from tests.color_profiles import DISPLAY_P3, rgb_profile
from tests.face_models import encoded
from tests.face_models import face_models as make_models
from tests.running import server_thread

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
PERSON = 1
PIXELS = face_models.photo({(16, 24): PERSON})
GOOD = encoded(PIXELS)


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def sixteen_bits() -> bytes:
    """A gray TIFF of 16 bits: the blue of the photo, which is where faces are."""
    return saved(Image.fromarray(PIXELS[..., 2].astype(np.uint16) * 257), "TIFF")


def transparent() -> bytes:
    """The photo with an alpha channel, the background fully transparent."""
    alpha = np.where(PIXELS[..., 2:] == 255, 255, 0).astype(np.uint8)
    return encoded(np.concatenate([PIXELS, alpha], axis=2))


def animated() -> bytes:
    """A GIF of two frames; only the first shows anybody."""
    frames = [Image.fromarray(face_models.photo(people)) for people in ({(16, 24): PERSON}, {})]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def hundred_megapixels() -> bytes:
    return saved(Image.new("1", (10_000, 10_000)), "PNG")


def large_jpeg() -> bytes:
    return saved(Image.new("RGB", (12_000, 9_000)), "JPEG")


def heic() -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PIXELS)).save(buffer, quality=-1, chroma=444)
    return buffer.getvalue()


def made_up_heic() -> bytes:
    """Its header says 60,000 x 60,000 pixels."""
    good = heic()
    size = struct.pack(">II", PIXELS.shape[1], PIXELS.shape[0])
    assert size in good
    return good.replace(size, struct.pack(">II", 60_000, 60_000))


def twelve_bits() -> bytes:
    """As sixteen_bits, with samples of 0 to 4095, which the file states."""
    samples = (PIXELS[..., 2].astype(np.uint16) * 16.06).astype(np.uint16)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = int(samples.max())
    return saved(Image.fromarray(samples), "TIFF", tiffinfo=tags)


def exif_bomb() -> bytes:
    """A PNG whose EXIF block points at itself, claims billions of entries and nests."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)  # ExifIFD at offset 8: this very directory
    many = struct.pack("<HHII", 0x9286, 2, 0xFFFFFFFF, 8)  # a comment of four billion characters
    exif = b"II*\x00" + struct.pack("<I", 8) + struct.pack("<H", 2) + entry + many + struct.pack("<I", 8)
    return encoded(PIXELS, exif=b"Exif\x00\x00" + exif)


def exif_of_megabytes() -> bytes:
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 99, 0)  # an orientation that doesn't exist
    exif = b"II*\x00" + struct.pack("<I", 8) + struct.pack("<H", 1) + orientation + struct.pack("<I", 0)
    return encoded(PIXELS, exif=b"Exif\x00\x00" + exif + bytes(4 << 20))


def run_lengths(side: int) -> bytes:
    """A BMP of which each row ends after its first pixel."""
    data = b"\x01\x00\x00\x00" * side + b"\x00\x01"
    start = 14 + 40 + 1024
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + bytes(1024) + data


# row: (picture, faces found or the reason of the refusal)
CASES = {
    "one pixel": (encoded(np.zeros((1, 1, 3), np.uint8)), 0),
    "one pixel high": (encoded(np.zeros((1, 5000, 3), np.uint8)), 0),
    "100 megapixels": (hundred_megapixels(), "IMAGE_TOO_LARGE"),
    "large JPEG": (large_jpeg(), 0),
    "HEIC": (heic(), None),
    "AVIF": (saved(Image.fromarray(PIXELS), "AVIF", quality=100, subsampling="4:4:4"), None),
    "made-up HEIC": (made_up_heic(), "IMAGE_TOO_LARGE"),
    "colour profile": (encoded(PIXELS, icc_profile=rgb_profile(DISPLAY_P3)), None),
    "broken colour profile": (encoded(PIXELS, icc_profile=rgb_profile(DISPLAY_P3)[:-9]), 1),
    "CMYK": (saved(Image.fromarray(PIXELS).convert("CMYK"), "TIFF"), 1),
    "CMYK JPEG": (saved(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=100), None),
    "16 bits": (sixteen_bits(), 1),
    "12 bits in 16": (twelve_bits(), 1),
    "gray": (saved(Image.fromarray(PIXELS[..., 2]), "PNG"), 1),
    "black and white": (saved(Image.fromarray(PIXELS[..., 2] == 255), "PNG"), 1),
    "palette": (saved(Image.fromarray(PIXELS).quantize(16), "PNG"), None),
    "alpha": (transparent(), None),
    "animated GIF": (animated(), 1),
    "EXIF bomb": (exif_bomb(), 1),
    "EXIF of megabytes": (exif_of_megabytes(), 1),
    "slow encodings": (run_lengths(1001), "IMAGE_TOO_LARGE"),
    "truncated JPEG": (saved(Image.fromarray(PIXELS), "JPEG")[:600], "IMAGE_UNDECODABLE"),
    "JPEG without its end": (saved(Image.fromarray(PIXELS), "JPEG", quality=100, subsampling=0)[:-2], None),
    "truncated PNG": (GOOD[: len(GOOD) // 2], "IMAGE_UNDECODABLE"),
    "wrong extension": (GOOD, 1),
    "other formats": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "IMAGE_UNDECODABLE"),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("odd")
    models = (make_models(folder / "models"),)
    with (
        server_thread(data_dir=folder / "data", models=models, min_face=10) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", quality_policy="off")
        client.enroll("g", "ada", GOOD)
        yield client


@pytest.mark.parametrize("name", CASES)
def test_odd_pictures(client: Client, name: str) -> None:
    picture, expected = CASES[name]
    if isinstance(expected, str):
        with pytest.raises(OneglanceError) as caught:
            client.identify("g", picture)
        assert (caught.value.code.name, caught.value.reason) == ("INVALID_ARGUMENT", expected)
    else:
        answer = client.identify("g", picture)
        if expected is not None:
            assert len(answer.results) == expected
        assert len(answer.photos) == 1
    assert client.identify("g", GOOD).results[0].subject_id == "ada"  # the server is none the worse


def test_the_file_name_never_matters(client: Client, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(GOOD)  # a PNG
    assert client.identify("g", tmp_path / "photo.jpg").results[0].subject_id == "ada"


def test_a_bomb_is_refused_before_it_is_unpacked(client: Client) -> None:
    """100 megapixels in 12 kB: what the refusal allocates stays far below the 300 MB that decoding would."""
    bomb = hundred_megapixels()
    assert len(bomb) < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(OneglanceError):
            client.detect_faces(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_the_table_in_the_docs_has_exactly_these_rows() -> None:
    section = DOCS.read_text().split("## Odd pictures")[1].split("\n## ")[0]
    assert re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)[1:] == list(CASES)
