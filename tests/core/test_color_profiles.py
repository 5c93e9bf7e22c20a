"""Pictures whose ICC profile says that their colours aren't sRGB."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, TiffImagePlugin, TiffTags

from oneglance_core import color_profile
from oneglance_core.color_profile import SRGB_PROFILE
from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import PictureLimits, decode_layers, decode_photo, encoder_input, read_header
from tests.color_profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    cmyk_profile,
    curved,
    gray_profile,
    linear,
    rgb_profile,
)

LIMITS = PictureLimits(max_image_bytes=1 << 24, max_image_pixels=100_000)
COLORS = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
P3 = rgb_profile(DISPLAY_P3)


def save(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(array: npt.NDArray[np.uint8], profile: bytes, kind: str = "PNG", **options: Any) -> npt.NDArray[np.uint8]:
    return decode_photo(save(Image.fromarray(array), kind, icc_profile=profile, **options), LIMITS)


def one(color: tuple[int, ...], profile: bytes, mode: str = "RGB", kind: str = "PNG") -> list[int]:
    data = save(Image.new(mode, (1, 1), color), kind, icc_profile=profile)
    found: list[int] = decode_photo(data, LIMITS)[0, 0].tolist()
    return found


def wanted(array: npt.NDArray[np.uint8], primaries: npt.NDArray[np.float64], gamma: float | None) -> Any:
    light = linear(array / 255) if gamma is None else (array / 255) ** gamma
    return 255 * curved(light @ (np.linalg.inv(SRGB) @ primaries).T)


def near(found: npt.NDArray[np.uint8], expected: Any, most: float = 1.0) -> bool:
    return bool(np.abs(found - expected).max() <= most)


def test_known_colors_of_display_p3() -> None:
    assert one((255, 0, 0), P3) == [255, 0, 0]  # beyond sRGB, so clipped
    assert one((0, 255, 0), P3) == [0, 255, 0]
    assert near(np.array(one((234, 51, 35), P3), np.uint8), [255, 0, 0])  # sRGB's red, as P3 writes it
    assert one((255, 255, 255), P3) == [255, 255, 255]
    assert one((0, 0, 0), P3) == [0, 0, 0]


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, None), (ADOBE_RGB, 563 / 256)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_color_becomes_what_the_profile_says(
    primaries: npt.NDArray[np.float64], gamma: float | None, kind: str
) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    found = decode(COLORS, rgb_profile(primaries, gamma), kind, **options)
    assert near(found, wanted(COLORS, primaries, gamma), 1.5)
    assert not near(found, COLORS, 20)


def test_jpeg_and_avif_and_heic() -> None:
    flat = np.broadcast_to(np.array([234, 51, 35], np.uint8), (32, 32, 3)).copy()
    assert near(decode(flat, P3, "JPEG", quality=100, subsampling=0), [255, 0, 0], 4)
    assert near(decode(flat, P3, "AVIF", quality=100, subsampling="4:4:4"), [255, 0, 0], 4)
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif = pillow_heif.from_pillow(Image.fromarray(flat))
    heif.info["icc_profile"] = P3
    heif.save(buffer, quality=-1)
    assert near(decode_photo(buffer.getvalue(), LIMITS), [255, 0, 0], 4)


def test_gray_stays_gray() -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(8, 32)
    found = decode(gray, gray_profile(1.8))
    assert near(found, 255 * curved((gray[..., np.newaxis] / 255) ** 1.8), 1.5)
    data = save(Image.fromarray(gray), icc_profile=gray_profile(1.8))
    spec = InputSpec(kind="image", shape=(8, 32, 1), dtype="uint8", color="gray")
    assert np.array_equal(encoder_input(data, spec, LIMITS)[..., 0], found[..., 0])
    assert not read_header(data, LIMITS).color
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    assert np.array_equal(decode_photo(save(deep, icc_profile=gray_profile(1.8)), LIMITS), found)


def test_cmyk_is_printed_as_its_profile_says() -> None:
    press = cmyk_profile(paper=100.0)
    assert one((0, 0, 0, 0), press, "CMYK", "TIFF") == [255, 255, 255]
    assert one((0, 0, 0, 255), press, "CMYK", "TIFF") == [0, 0, 0]
    half = np.array(one((0, 128, 0, 0), press, "CMYK", "TIFF"), np.uint8)
    assert near(half, [118] * 3, 3)  # L* = 49.8
    assert one((0, 128, 0, 0), b"", "CMYK", "TIFF") == [255, 127, 255]  # as without


def test_transparency_stays() -> None:
    alpha = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    data = save(Image.fromarray(np.dstack([COLORS, alpha])), icc_profile=P3)
    layers = decode_layers(data, LIMITS, keep_alpha=True)
    assert layers.alpha is not None
    assert np.array_equal(layers.alpha, alpha)
    assert np.array_equal(layers.pixels, decode(COLORS, P3))
    gray = save(Image.fromarray(np.dstack([COLORS[..., 0], alpha])), icc_profile=gray_profile(1.8))
    layers = decode_layers(gray, LIMITS, keep_alpha=True)
    assert layers.alpha is not None
    assert np.array_equal(layers.alpha, alpha)
    assert np.array_equal(layers.pixels, decode(COLORS[..., 0], gray_profile(1.8)))


@pytest.mark.parametrize("transparency", [None, 1])
def test_a_palette_is_of_colors(transparency: int | None) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([234, 51, 35, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    found = decode_photo(save(picture, icc_profile=P3, **options), LIMITS)
    assert near(found[0, 0], [255, 0, 0])
    assert found[0, 1].tolist() == ([0, 255, 0] if transparency is None else [255, 255, 255])


@pytest.mark.parametrize(
    "profile", [SRGB_PROFILE, rgb_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_srgb_by_any_name_changes_no_bit(profile: bytes, kind: str, color: Literal["rgb", "gray"]) -> None:
    picture = Image.fromarray(COLORS)
    spec = InputSpec(kind="image", shape=(7, 9, 3 if color == "rgb" else 1), dtype="uint8", color=color)
    tagged, bare = save(picture, kind, icc_profile=profile), save(picture, kind)
    assert tagged != bare
    assert np.array_equal(encoder_input(tagged, spec, LIMITS), encoder_input(bare, spec, LIMITS))


@pytest.mark.parametrize(
    ("profile", "mode"),
    [
        (b"not a profile", "RGB"),
        (P3[:-40], "RGB"),
        (P3[:128], "RGB"),
        (P3.replace(b"rXYZ", b"nono"), "RGB"),
        (P3.replace(b"mntr", b"link"), "RGB"),
        (P3 + bytes(color_profile.MAX_PROFILE_BYTES), "RGB"),
        (gray_profile(1.8), "RGB"),
        (P3, "L"),
        (P3, "CMYK"),
    ],
)
def test_a_profile_that_cant_be_used_is_passed_over(profile: bytes, mode: str) -> None:
    picture = Image.fromarray(COLORS).convert(mode)
    assert np.array_equal(
        decode_photo(save(picture, "TIFF", icc_profile=profile), LIMITS), decode_photo(save(picture, "TIFF"), LIMITS)
    )


@pytest.mark.parametrize("content", [7, "profile"])
def test_a_profile_that_is_no_bytes_is_passed_over(content: object) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[34675] = content
    tags.tagtype[34675] = TiffTags.SHORT if content == 7 else TiffTags.ASCII
    data = save(Image.fromarray(COLORS), "TIFF", tiffinfo=tags)
    assert np.array_equal(decode_photo(data, LIMITS), COLORS)


def test_threads_share_a_conversion() -> None:
    pictures = [np.random.default_rng(i).integers(0, 256, (90, 120, 3), dtype=np.uint8) for i in range(30)]
    data = [save(Image.fromarray(picture), icc_profile=P3) for picture in pictures]
    alone = [decode_photo(one, LIMITS) for one in data]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: decode_photo(one, LIMITS), data))
    assert all(map(np.array_equal, together, alone))


@settings(max_examples=300, deadline=None)
@given(
    which=st.sampled_from([("RGB", P3), ("L", gray_profile(2.2)), ("CMYK", cmyk_profile()), ("RGBA", P3)]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=10),
    keep=st.floats(0.3, 1),
)
def test_no_profile_brings_decoding_down(
    which: tuple[str, bytes], changes: list[tuple[float, bytes]], keep: float
) -> None:
    mode, profile = which
    damaged = bytearray(profile)
    for where, what in changes:
        place = int(where * (len(damaged) - len(what)))
        damaged[place : place + len(what)] = what
    del damaged[max(132, int(keep * len(damaged))) :]
    damaged[:4] = len(damaged).to_bytes(4, "big")  # so that Little CMS gets to see it
    data = save(Image.fromarray(COLORS).convert(mode), "TIFF", icc_profile=bytes(damaged))
    assert decode_photo(data, LIMITS).shape == COLORS.shape
