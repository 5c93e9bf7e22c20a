"""JPEGs of more pixels than are decoded: at half their sides, without their whole size ever being in memory."""

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import (
    PictureError,
    PictureLimits,
    decode_layers,
    decode_photo,
    decode_sized,
    encoder_input,
    read_header,
)

WIDTH, HEIGHT = 604, 402
LIMITS = PictureLimits(1 << 24, WIDTH * HEIGHT // 3)
ROOMY = PictureLimits(1 << 24, 1 << 24)
SHADES = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8)
PHOTO = Image.fromarray(SHADES).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image = PHOTO, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **{"quality": 92, **options})
    return buffer.getvalue()


def halved(data: bytes) -> np.ndarray[Any, Any]:
    """Decoded whole, then shrunk."""
    whole = Image.fromarray(decode_photo(data, ROOMY))
    return np.asarray(whole.reduce(2), dtype=int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_it_is_the_whole_picture_at_half_its_sides(orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(PHOTO.convert(mode), exif=exif)
    pixels, size = decode_sized(data, LIMITS)
    whole, its_size = decode_sized(data, ROOMY)
    assert size == its_size == whole.shape[1::-1]
    assert pixels.shape == (-(-whole.shape[0] // 2), -(-whole.shape[1] // 2), 3)
    inside = np.abs(pixels.astype(int) - halved(data))[2:-2, 2:-2]
    assert inside.mean() < 2.5
    assert np.array_equal(decode_photo(data, LIMITS), pixels)
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == (WIDTH, HEIGHT)


def test_odd_sides_are_rounded_up() -> None:
    pixels, size = decode_sized(jpeg(PHOTO.crop((0, 0, 601, 399))), LIMITS)
    assert (pixels.shape, size) == ((200, 301, 3), (601, 399))


@pytest.mark.parametrize("fit", [None, "pad", "crop"])
def test_an_encoder_gets_what_the_whole_picture_gives(fit: Any) -> None:
    spec = InputSpec(kind="image", shape=(20, 30, 3), dtype="uint8", color="rgb", fit=fit)
    data = jpeg()
    part, whole = (encoder_input(data, spec, limits).astype(int) for limits in (LIMITS, ROOMY))
    assert np.abs(part - whole).mean() < 3


def test_what_needs_a_size_gets_it_or_a_refusal() -> None:
    data = jpeg()
    small = decode_layers(data, LIMITS, max_side=150).pixels
    assert small.shape == (100, 150, 3)
    assert np.abs(small.astype(int) - decode_layers(data, ROOMY, max_side=150).pixels).mean() < 3
    for max_side in (0, 500):
        with pytest.raises(PictureError) as caught:
            decode_layers(data, LIMITS, max_side=max_side)
        assert caught.value.reason == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize(
    ("data", "most"),
    [
        (jpeg(), WIDTH * HEIGHT // 4 - 400),  # more than four times as many
        (jpeg(progressive=True), WIDTH * HEIGHT // 3),  # all of it is in memory before a row comes out
        (jpeg()[:-2], WIDTH * HEIGHT // 4 - 400),
    ],
)
def test_others_are_refused(data: bytes, most: int) -> None:
    for read in (decode_photo, read_header):
        with pytest.raises(PictureError) as caught:
            read(data, PictureLimits(1 << 24, most))
        assert caught.value.reason == "IMAGE_TOO_LARGE"
        assert str(most) in str(caught.value)


def test_other_formats_are_not_halved() -> None:
    buffer = io.BytesIO()
    PHOTO.save(buffer, "PNG")
    with pytest.raises(PictureError, match=f"{WIDTH} x {HEIGHT} pixels, at most {LIMITS.max_image_pixels} in all"):
        decode_photo(buffer.getvalue(), LIMITS)


def test_two_pictures_in_one_file_and_a_missing_end_marker() -> None:
    buffer = io.BytesIO()
    PHOTO.save(buffer, "MPO", save_all=True, append_images=[PHOTO.resize((20, 10))], quality=92)
    assert np.array_equal(decode_photo(buffer.getvalue(), LIMITS), decode_photo(jpeg(), LIMITS))
    assert np.array_equal(decode_photo(jpeg()[:-2], LIMITS), decode_photo(jpeg(), LIMITS))


def test_the_memory_of_108_megapixels() -> None:
    """In a process of its own: at most so much more than it has before, where the whole takes over 430 MB."""
    code = """
import io, resource
import numpy as np
from PIL import Image
from oneglance_core.pictures import PictureLimits, decode_sized
data = open("/dev/stdin", "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels, size = decode_sized(data, PictureLimits(1 << 25, 50_000_000))
print(pixels.shape, size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    data = jpeg(Image.new("RGB", (12_000, 9_000), (200, 100, 50)), quality=50)
    ended = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    *told, megabytes = ended.stdout.decode().rsplit(" ", 1)
    assert told == ["(4500, 6000, 3) (12000, 9000)"]
    assert int(megabytes) < 250
