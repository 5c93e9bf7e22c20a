"""Pictures stylized through a real server, against what numpy computes."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oneglance import Client
from oneglance.client.requests import PictureFormatName
from oneglance.v1.stylization_pb2 import (
    PICTURE_FORMAT_JPEG,
    PICTURE_FORMAT_PNG,
    PICTURE_FORMAT_WEBP,
    StylizedPicture,
)
from oneglance_core.color_profile import SRGB_PROFILE
from oneglance_core.pictures import PictureError, PictureLimits, decode_layers, read_header
from tests.color_profiles import DISPLAY_P3, rgb_profile
from tests.pictures import png
from tests.running import server_thread
from tests.style_models import STYLES, tinted

Pixels = npt.NDArray[np.uint8]
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def styles(tints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server whose tiles are of 128 pixels."""
    settings = {"data_dir": tmp_path_factory.mktemp("data"), "models": (tints,), "stylize_tile": 128}
    with server_thread(**settings) as server, Client(server.address) as client:
        yield client


def scene(height: int = 64, width: int = 128, seed: int = 0) -> Pixels:
    """Coloured squares, uint8 [height, width, 3]."""
    squares = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return squares.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def opened(picture: StylizedPicture) -> Pixels:
    found = np.asarray(Image.open(io.BytesIO(picture.image)))
    assert (picture.width, picture.height) == (found.shape[1], found.shape[0])
    return found


def direct(pixels: Pixels, **weights: float) -> npt.NDArray[np.float32]:
    """The graph itself on the lengthened picture, float32 [H, W, 3]."""
    height, width, _ = pixels.shape
    lengthened = np.pad(pixels, [(0, -height % 64), (0, -width % 64), (0, 0)], mode="symmetric")
    return tinted(lengthened, [weights.get(style, 0.0) for style in STYLES])[0][:height, :width]


def near(found: npt.NDArray[Any], expected: npt.NDArray[Any], levels: float = 1) -> bool:
    return found.shape == expected.shape and bool(np.abs(found.astype(float) - expected).max() <= levels)


@pytest.mark.parametrize("size", [(64, 128), (50, 100), (1, 1), (64, 65), (7, 128)])
def test_a_picture_is_what_the_graph_makes_of_it(styles: Client, size: tuple[int, int]) -> None:
    pixels = scene(*size)
    answer = styles.stylize(png(pixels), "moss")
    assert near(opened(answer), direct(pixels, moss=1))
    assert (answer.format, answer.tiles) == (PICTURE_FORMAT_PNG, 1)
    assert answer.stylizer_digest == styles.describe_model("tints").model.digest
    assert answer.execution_provider == "CPUExecutionProvider"


def test_styles_blend_by_their_weights(styles: Client) -> None:
    pixels = scene()
    answer = styles.stylize(png(pixels), {"ember": 0.25, "slate": 0.75})
    assert near(opened(answer), direct(pixels, ember=0.25, slate=0.75))
    assert not near(opened(answer), direct(pixels, slate=1), 10)
    within = styles.stylize(png(pixels), {"ember": 0.2502, "slate": 0.7503}, stylizer="tints")
    assert near(opened(within), opened(answer))


def test_a_path_can_be_given(styles: Client, tmp_path: Path) -> None:
    (tmp_path / "it.png").write_bytes(png(scene()))
    assert near(opened(styles.stylize(tmp_path / "it.png", "ember")), direct(scene(), ember=1))


def test_strength_leads_from_the_picture_to_the_stylized_one(styles: Client) -> None:
    for pixels in (scene(), scene(200, 300)):  # whole, and in tiles
        none, half, full = (opened(styles.stylize(png(pixels), "ember", strength=s)) for s in (0, 0.5, 1))
        assert np.array_equal(none, pixels)
        assert near(half, (pixels.astype(float) + full) / 2)
        assert not near(full, pixels, 20)


def test_colours_are_kept_and_only_luma_changes(styles: Client) -> None:
    pixels = scene() // 3 + 80  # so that nothing is cut off
    found = opened(styles.stylize(png(pixels), "slate", keep_colors=True)).astype(float)
    inside = ((found > 0) & (found < 255)).all(axis=2)
    assert inside.mean() > 0.9
    luma, wanted = found @ LUMA, direct(pixels, slate=1) @ LUMA
    assert np.abs(luma - wanted)[inside].max() <= 1
    chroma, original = found - luma[..., None], pixels - (pixels @ LUMA)[..., None]
    assert np.abs(chroma - original)[inside].max() <= 1
    assert not near(found, direct(pixels, slate=1), 10)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_colors_are_those_of_the_profile_and_come_back_as_srgb(styles: Client, name: PictureFormatName) -> None:
    told = png(scene(), icc_profile=rgb_profile(DISPLAY_P3))
    answer = styles.stylize(told, "ember", strength=0, format=name, quality=100)
    found = Image.open(io.BytesIO(answer.image))
    assert found.info.get("icc_profile") == SRGB_PROFILE if name != "png" else found.info["srgb"] == 0
    if name == "png":
        assert np.array_equal(opened(answer), decode_layers(told, PictureLimits(1 << 20, 1 << 20)).pixels)
        assert not near(opened(answer), scene(), 10)
    again = styles.stylize(answer.image, "ember", strength=0, format="png")
    assert np.array_equal(opened(again), np.asarray(found.convert("RGB")))


def test_formats(styles: Client) -> None:
    picture = Image.fromarray(scene())
    expected = direct(scene(), ember=1)
    names: tuple[PictureFormatName, ...] = ("png", "jpeg", "webp")
    for name, number in zip(names, (PICTURE_FORMAT_PNG, PICTURE_FORMAT_JPEG, PICTURE_FORMAT_WEBP), strict=True):
        format = name.upper()
        lossless: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
        came = styles.stylize(saved(picture, format, **lossless), "ember")
        asked = styles.stylize(png(scene()), "ember", format=name)
        for answer in (came, asked):
            assert answer.format == number
            assert Image.open(io.BytesIO(answer.image)).format == format
            opened(answer)
        assert np.abs(opened(asked) - expected).mean() < (0.5 if format == "PNG" else 6)
    for other in ("BMP", "TIFF", "PPM"):
        assert styles.stylize(saved(picture, other), "ember").format == PICTURE_FORMAT_PNG
    coarse, fine = (styles.stylize(png(scene()), "ember", format="jpeg", quality=quality).image for quality in (5, 100))
    assert len(coarse) < len(fine) / 2
    ninety = styles.stylize(png(scene()), "ember", format="jpeg", quality=90).image
    assert styles.stylize(png(scene()), "ember", format="jpeg").image == ninety


def test_max_side_shrinks_and_never_enlarges(styles: Client) -> None:
    pixels = scene(200, 100)
    small = styles.stylize(png(pixels), "ember", max_side=50)
    assert (small.width, small.height) == (25, 50)
    shrunk = np.asarray(Image.fromarray(pixels).resize((25, 50), Image.Resampling.LANCZOS))
    assert near(opened(small), direct(shrunk, ember=1))
    same = styles.stylize(png(pixels), "ember", max_side=5000, strength=0)
    assert np.array_equal(opened(same), pixels)
    jpeg = styles.stylize(saved(Image.fromarray(scene(900, 1200)), "JPEG"), "ember", max_side=100)
    assert (jpeg.width, jpeg.height) == (100, 75)
    line = styles.stylize(png(scene(1, 1000)), "ember", max_side=10)
    assert (line.width, line.height) == (10, 1)


def test_exif_turns_the_picture_and_is_not_handed_on(styles: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    exif[0x010F] = "the maker of the camera"
    came = saved(Image.fromarray(scene(64, 128)), "JPEG", quality=100, subsampling=0, exif=exif)
    upright = np.asarray(Image.open(io.BytesIO(came)).transpose(Image.Transpose.ROTATE_270))
    answer = styles.stylize(came, "ember", format="png")
    assert near(opened(answer), direct(upright, ember=1))
    formats: tuple[PictureFormatName, ...] = ("png", "jpeg", "webp")
    for format in formats:
        answer = styles.stylize(came, "ember", format=format, max_side=50)
        assert (answer.width, answer.height) == (25, 50)
        assert not Image.open(io.BytesIO(answer.image)).getexif()
        assert b"maker" not in answer.image


def test_transparency_is_kept_where_the_format_has_it(styles: Client) -> None:
    for height, width in ((64, 128), (200, 300)):
        pixels = scene(height, width)
        alpha = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
        came = png(np.dstack([pixels, alpha]))
        found = opened(styles.stylize(came, "ember"))
        assert np.array_equal(found[..., 3], alpha)
        untouched = opened(styles.stylize(came, "ember", strength=0))
        assert np.array_equal(untouched, np.dstack([pixels, alpha]))
        share = alpha[..., None] / 255
        on_white = pixels * share + 255 * (1 - share)
        if (height, width) == (64, 128):  # the network sees it on white
            assert near(found[..., :3], direct(np.rint(on_white).astype(np.uint8), ember=1), 2)
        opaque = opened(styles.stylize(came, "ember", strength=0, format="jpeg", quality=100))
        assert opaque.shape == (height, width, 3)
        assert np.abs((opaque - on_white) @ LUMA).mean() < 2  # JPEG halves the resolution of chroma
    webp = styles.stylize(came, "ember", format="webp", quality=100)
    assert np.array_equal(opened(webp)[..., 3], alpha)


GRAY = scene()[..., 0]
ODD: dict[str, tuple[bytes, Pixels]] = {
    "gray": (png(GRAY), np.dstack([GRAY] * 3)),
    "16-bit": (saved(Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG"), np.dstack([GRAY] * 3)),
    "black and white": (
        saved(Image.fromarray(GRAY > 127), "PNG"),
        np.dstack([(GRAY > 127).astype(np.uint8) * 255] * 3),
    ),
    "palette": (
        saved(Image.fromarray(scene()).quantize(256, dither=Image.Dither.NONE), "PNG"),
        np.asarray(Image.fromarray(scene()).quantize(256, dither=Image.Dither.NONE).convert("RGB")),
    ),
    "cmyk": (
        saved(Image.fromarray(scene()).convert("CMYK"), "TIFF"),
        np.asarray(Image.fromarray(scene()).convert("CMYK").convert("RGB")),
    ),
    "float": (saved(Image.fromarray(GRAY.astype(np.float32) / 255), "TIFF"), np.dstack([GRAY] * 3)),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_are_read_as_rgb(styles: Client, kind: str) -> None:
    came, pixels = ODD[kind]
    assert near(opened(styles.stylize(came, "slate", format="png")), direct(pixels, slate=1))


def test_a_phone_s_jpeg_with_a_second_picture_behind_it_is_a_jpeg(styles: Client) -> None:
    first, second = (Image.fromarray(scene(seed=seed)) for seed in (1, 2))
    answer = styles.stylize(saved(first, "MPO", save_all=True, append_images=[second], quality=100), "ember")
    assert answer.format == PICTURE_FORMAT_JPEG
    assert np.abs(opened(answer) - direct(scene(seed=1), ember=1)).mean() < 12


@given(format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]), data=st.data())
def test_damaged_pictures_are_read_or_refused_and_nothing_else(format: str, data: st.DataObject) -> None:
    pixels = np.dstack([scene(16, 24), np.full((16, 24), 99, np.uint8)])
    whole = saved(Image.fromarray(pixels if format in ("PNG", "WEBP", "TIFF") else pixels[..., :3]), format)
    limits = PictureLimits(1 << 20, 1 << 20)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    place, byte = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    for damaged in (cut, whole[:place] + bytes([byte]) + whole[place + 1 :]):
        with contextlib.suppress(PictureError):
            header = read_header(damaged, limits)
            layers = decode_layers(damaged, limits, max_side=20, keep_alpha=True)
            assert layers.pixels.ndim == 3
            assert max(layers.pixels.shape[:2]) == min(20, max(header.width, header.height))


def test_of_an_animation_the_first_frame_counts_and_its_transparency_is_kept(styles: Client) -> None:
    frames = [Image.fromarray(scene(seed=seed)).quantize(16) for seed in (1, 2)]
    came = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=3)
    answer = styles.stylize(came, "ember", strength=0)
    assert answer.format == PICTURE_FORMAT_PNG
    first = Image.open(io.BytesIO(came)).convert("RGBA")
    assert np.array_equal(opened(answer)[..., 3], np.asarray(first)[..., 3])
    assert (opened(answer)[..., 3] == 0).any()


@pytest.mark.parametrize(("height", "width"), [(1, 50_000), (50_000, 1), (1, 77), (200, 1)])
def test_sides_of_a_pixel_and_of_fifty_thousand(styles: Client, height: int, width: int) -> None:
    answer = styles.stylize(png(scene(height, width)), "ember")
    assert (answer.width, answer.height) == (width, height)
    assert (answer.tiles > 1) == (max(height, width) > 1000)
    assert opened(answer).std() > 1


def test_large_pictures_are_cut_in_tiles_of_one_colour_scheme(styles: Client) -> None:
    """Left and right half differ; by their own moments tiles of both would come out alike."""
    pixels = np.concatenate([scene(300, 150, 1) // 4, 255 - scene(300, 150, 2) // 4], axis=1)
    answer = styles.stylize(png(pixels), "slate")
    assert answer.tiles == 9
    found = opened(answer).astype(float)
    assert found[:, 150:].mean() - found[:, :150].mean() > 50
    assert np.abs(found - direct(pixels, slate=1)).mean() < 4  # as far as the small copy's moments are the whole's
