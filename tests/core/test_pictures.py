"""Decoding: every format to the same array, every limit before decoding, no input that crashes."""

import contextlib
import io
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import PictureError, PictureLimits, decode_photo, encoder_input

LIMITS = PictureLimits(max_image_bytes=1 << 20, max_image_pixels=100_000)
DRAWING = np.random.default_rng(3).integers(0, 256, (10, 14, 3), dtype=np.uint8)


def save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(
    data: bytes, *, height: int = 10, width: int = 14, color: Literal["gray", "rgb"] = "rgb"
) -> np.ndarray[Any, Any]:
    shape = (height, width, 1 if color == "gray" else 3)
    return encoder_input(data, InputSpec(kind="image", shape=shape, dtype="uint8", color=color), LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_the_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode(save(Image.fromarray(DRAWING), kind, **options)), DRAWING)


def test_gray_has_one_channel() -> None:
    gray = DRAWING[..., 0]
    assert np.array_equal(decode(save(Image.fromarray(gray), "PNG"), color="gray"), gray[..., np.newaxis])


def test_exif_orientation_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned; to be shown turned by 90 degrees
    data = save(Image.fromarray(DRAWING), "PNG", exif=exif)
    assert np.array_equal(decode(data, height=14, width=10), np.rot90(DRAWING, k=-1))


def test_transparency_is_laid_on_white() -> None:
    rgba = np.dstack([DRAWING, np.zeros((10, 14), np.uint8)])
    assert (decode(save(Image.fromarray(rgba), "PNG")) == 255).all()
    palette = Image.new("P", (14, 10), 0)
    assert (decode(save(palette, "PNG", transparency=0)) == 255).all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    deep = np.linspace(0, 65535, 140, dtype=np.uint16).reshape(10, 14)
    decoded = decode(save(Image.fromarray(deep), "PNG"), color="gray")[..., 0]
    assert np.abs(decoded - deep / 257.0).max() <= 1


def test_a_large_picture_takes_little_memory_beside_itself_and_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = PictureLimits(max_image_bytes=1 << 24, max_image_pixels=10_000_000)
    deep = np.broadcast_to(np.linspace(0, 65535, 1500, dtype=np.uint16)[:, np.newaxis], (1500, 2000))
    data = save(Image.fromarray(np.ascontiguousarray(deep)), "PNG")
    tracemalloc.start()
    decoded = decode_photo(data, limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * deep.size  # it was 30 when 16 bits were scaled at once, in float64
    assert np.abs(decoded - (deep / 257.0)[..., np.newaxis]).max() <= 1

    sizes = []
    compose = Image.alpha_composite

    def noted(below: Image.Image, above: Image.Image) -> Image.Image:
        sizes.append(below.width * below.height)
        return compose(below, above)

    shade = np.random.default_rng(0).integers(0, 256, (1500, 2000, 4), dtype=np.uint8)
    monkeypatch.setattr(Image, "alpha_composite", noted)
    decoded = decode_photo(save(Image.fromarray(shade), "PNG", compress_level=1), limits)
    whole = compose(Image.new("RGBA", (2000, 1500), "white"), Image.fromarray(shade)).convert("RGB")
    assert np.array_equal(decoded, np.asarray(whole))
    assert max(sizes) < 1_000_000  # it holds the GIL, 10 ms for that many


def test_one_bit_and_cmyk_and_animation() -> None:
    assert set(np.unique(decode(save(Image.new("1", (14, 10), 1), "PNG"), color="gray"))) == {255}
    assert decode(save(Image.new("CMYK", (14, 10)), "JPEG")).shape == (10, 14, 3)
    frames = [Image.new("L", (14, 10), shade) for shade in (0, 255)]
    movie = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(movie, color="gray") == 0).all()


def test_resizing_averages() -> None:
    board = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((8, 8), np.uint8))
    assert np.array_equal(
        decode(save(Image.fromarray(board), "PNG"), height=2, width=2, color="gray")[..., 0], [[0, 255], [255, 0]]
    )
    assert decode(save(Image.fromarray(board), "PNG"), height=1, width=1, color="gray").item() in (127, 128)
    assert decode(save(Image.new("L", (1, 1), 9), "PNG"), color="gray").tolist() == [[[9]] * 14] * 10


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "IMAGE_EMPTY"),
        (bytes(LIMITS.max_image_bytes + 1), "IMAGE_TOO_LARGE"),
        (save(Image.new("L", (400, 251)), "PNG"), "IMAGE_TOO_LARGE"),
        (b"GIF89a", "IMAGE_UNDECODABLE"),
        (b"%PDF-1.4", "IMAGE_UNDECODABLE"),
        (save(Image.fromarray(DRAWING), "PNG")[:-40], "IMAGE_UNDECODABLE"),
    ],
)
def test_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError) as caught:
        decode(data)
    assert caught.value.reason == reason


@settings(max_examples=300)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"]),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    keep=st.floats(0.05, 1),
)
def test_damage_is_refused_or_decoded_but_never_anything_else(
    kind: str, flips: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(save(Image.fromarray(DRAWING), kind))
    for where, value in flips:
        data[int(where * (len(data) - 1))] = value
    try:
        array = decode(bytes(data[: max(1, int(keep * len(data)))]))
    except PictureError:
        return
    assert array.shape == (10, 14, 3)
    assert array.dtype == np.uint8


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_decoded(data: bytes) -> None:
    with contextlib.suppress(PictureError):
        decode(data)


@pytest.mark.parametrize("kind", ["lossy", "lossless", "transparent", "jpeg"])
def test_want_of_memory_is_not_blamed_on_a_picture(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some decoders have one error for both."""
    buffer = io.BytesIO()
    picture = Image.new(
        "RGBA" if kind == "transparent" else "RGB", (120, 70), (1, 2, 3, 100)[: 3 + (kind == "transparent")]
    )
    picture.save(buffer, "JPEG" if kind == "jpeg" else "WEBP", lossless=kind == "lossless")
    damaged = buffer.getvalue()[: -10 if kind == "jpeg" else 40]
    limits = PictureLimits(1 << 20, 1 << 20)
    with pytest.raises(PictureError):
        decode_photo(damaged, limits)
    wanted: list[int] = []

    def full(shape: Any, *arguments: Any) -> Any:
        wanted.append(shape)
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(MemoryError):
        decode_photo(damaged, limits)
    with pytest.raises(PictureError):  # larger than is decoded at all
        decode_photo(damaged, PictureLimits(1 << 20, 120 * 70 - 1))
    assert wanted == [18 * 120 * 70]


def run_lengths(side: int) -> bytes:
    """A BMP of which each row ends after its first pixel."""
    data = b"\x01\x00\x00\x00" * side + b"\x00\x01"
    start = 14 + 40 + 1024
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + bytes(1024) + data


def odd_maximum(side: int) -> bytes:
    """A PPM whose samples must be scaled."""
    return b"P6\n%d %d\n254\n" % (side, side) + bytes(3 * side * side)


@pytest.mark.parametrize("encode", [run_lengths, odd_maximum])
def test_what_is_decoded_in_python_is_small(encode: Callable[[int], bytes]) -> None:
    limits = PictureLimits(max_image_bytes=1 << 24, max_image_pixels=10_000_000)
    assert decode_photo(encode(100), limits).shape == (100, 100, 3)
    with pytest.raises(PictureError, match="slow to read") as caught:
        decode_photo(encode(1001), limits)
    assert caught.value.reason == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_all_orientations_are_as_pillow_turns_them(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(Image.fromarray(DRAWING), kind, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_photo(data, LIMITS), np.asarray(turned))


def test_exif_is_not_written_anew_to_turn_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = save(Image.fromarray(DRAWING), "PNG", exif=exif)

    def write(*_: object, **__: object) -> bytes:
        raise AssertionError("it takes seconds for millions of numbers")

    monkeypatch.setattr(Image.Exif, "tobytes", write)
    assert decode_photo(data, LIMITS).shape == (14, 10, 3)
