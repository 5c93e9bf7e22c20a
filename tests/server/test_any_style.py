"""A stylizer for any style: the style is read from a picture."""

import io
import json
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance import Client, OneglanceError, stylize_settings
from oneglance.v1.stylization_pb2 import StyleWeight, StylizeRequest, StylizeSettings
from oneglance_apps.cli import main
from oneglance_apps.repaint.style_choice import StyleChoice
from oneglance_core.pictures import PictureLimits
from oneglance_server.engines.style_reader import Floats, StyleReader
from oneglance_server.errors import StartupError
from oneglance_server.loading import load_models
from oneglance_server.settings import Settings
from tests.pictures import png
from tests.running import server_thread
from tests.server.test_bad_input import bomb
from tests.server.test_stylize import direct, near, opened, scene
from tests.style_models import any_style_models

EMBER, MOSS = (png(np.full((20, 30, 3), color, np.uint8)) for color in ((255, 0, 0), (0, 255, 0)))
SCENE = png(scene())


@pytest.fixture(scope="module")
def styles(tints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a server with a stylizer of its own styles, and one for any."""
    folder = tmp_path_factory.mktemp("any")
    models = (tints, any_style_models(folder / "models"))
    settings = {"data_dir": folder / "data", "models": models, "stylize_tile": 128, "max_stylize_pixels": 100_000}
    with server_thread(**settings) as server, Client(server.address) as client:
        yield client


def test_the_style_of_a_picture_is_read(styles: Client, tmp_path: Path) -> None:
    answer = styles.stylize(SCENE, EMBER)
    assert near(opened(answer), direct(scene(), ember=1))
    assert answer.stylizer_digest == styles.describe_model("any").model.digest
    (tmp_path / "moss.png").write_bytes(MOSS)
    assert near(opened(styles.stylize(SCENE, tmp_path / "moss.png", stylizer="any")), direct(scene(), moss=1))


def test_styles_of_pictures_blend(styles: Client) -> None:
    answer = styles.stylize(SCENE, {EMBER: 0.25, MOSS: 0.75})
    assert near(opened(answer), direct(scene(), ember=0.25, moss=0.75))


def test_the_middle_of_the_picture_is_looked_at_upright_and_in_srgb(styles: Client) -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 12:28, 0] = 255
    assert near(opened(styles.stylize(SCENE, png(wide))), direct(scene(), ember=1))
    buffer = io.BytesIO()
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(buffer, "TIFF")
    assert near(opened(styles.stylize(SCENE, buffer.getvalue())), direct(scene(), ember=1))


def test_tiles_and_strokes_are_as_of_any_stylizer(styles: Client) -> None:
    pixels = scene(200, 300)
    assert styles.stylize(png(pixels), EMBER).tiles == styles.stylize(png(pixels), "ember").tiles > 1
    assert near(opened(styles.stylize(png(pixels), EMBER)), opened(styles.stylize(png(pixels), "ember")))
    large, own = (opened(styles.stylize(png(pixels), style, stroke_size=3)) for style in (EMBER, "ember"))
    assert near(large, own)


def test_who_names_no_stylizer_gets_the_one_that_can(styles: Client) -> None:
    assert styles.stylize(SCENE, "ember").stylizer_digest == styles.describe_model("tints").model.digest
    assert {style.stylizer for style in styles.list_styles()} == {"tints"}
    assert "stylize:picture" in styles.get_server().capabilities


def test_frames_are_painted_in_a_style_that_is_read_once(styles: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read = StyleReader.read
    times = []

    def counted(reader: StyleReader, data: bytes, limits: PictureLimits) -> Generator[None, None, Floats]:
        times.append(data)
        return read(reader, data, limits)

    monkeypatch.setattr(StyleReader, "read", counted)
    answers = list(styles.stylize_stream([SCENE] * 3, MOSS, format="png", every_frame=True))
    assert all(near(opened(answer.picture), direct(scene(), moss=1)) for answer in answers)
    assert len(times) == 1


def mixed(*entries: StyleWeight) -> Callable[[Client], object]:
    request = StylizeRequest(image=SCENE, settings=StylizeSettings(styles=entries, stylizer="any"))
    return lambda client: client._call(client._stylization.Stylize, request)


REFUSED: dict[str, tuple[Callable[[Client], object], str, str]] = {
    "damaged": (lambda c: c.stylize(SCENE, EMBER[:50]), "IMAGE_UNDECODABLE", "settings.styles[0].picture"),
    "of a blend": (
        lambda c: c.stylize(SCENE, {EMBER: 0.5, b"?": 0.5}),
        "IMAGE_UNDECODABLE",
        "settings.styles[1].picture",
    ),
    "bomb": (lambda c: c.stylize(SCENE, bomb()), "IMAGE_TOO_LARGE", "settings.styles[0].picture"),
    "large": (
        lambda c: c.stylize(SCENE, png(np.zeros((400, 400), np.uint8))),
        "IMAGE_TOO_LARGE",
        "settings.styles[0].picture",
    ),
    "too many": (
        mixed(*[StyleWeight(picture=EMBER, weight=1 / 9)] * 9),
        "TOO_MANY",
        "settings.styles",
    ),
    "two in one": (mixed(StyleWeight(style="ember", picture=EMBER)), "INVALID_REQUEST", "settings.styles[0]"),
    "neither": (mixed(StyleWeight()), "STYLE_NOT_FOUND", "settings.styles[0].style"),
    "a name": (mixed(StyleWeight(style="ember")), "STYLE_NOT_FOUND", "settings.styles[0].style"),
    "weights": (
        mixed(StyleWeight(picture=EMBER, weight=0.5), StyleWeight(picture=MOSS, weight=0.4)),
        "WEIGHTS_INVALID",
        "settings.styles",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(styles: Client, case: str) -> None:
    ask, reason, field = REFUSED[case]
    with pytest.raises(OneglanceError) as caught:
        ask(styles)
    assert (caught.value.reason, caught.value.field_violations[0][0]) == (reason, field)


def test_a_stream_is_refused_for_a_style_that_cant_be_read(styles: Client) -> None:
    with pytest.raises(OneglanceError) as caught:
        list(styles.stylize_stream([SCENE, SCENE], b"?", every_frame=True))
    assert caught.value.reason == "IMAGE_UNDECODABLE"
    assert caught.value.field_violations[0][0] == "settings.settings.styles[0].picture"


def test_a_stylizer_for_any_style_needs_its_reader(tmp_path: Path) -> None:
    folder = any_style_models(tmp_path)
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(StartupError, match="any: add the reader of styles for colors to --models"),
    ):
        load_models(Settings(models=(folder / "any",)), pool)


def test_the_client_tells_names_from_pictures() -> None:
    settings = stylize_settings({"ember": 0.5, EMBER: 0.5})
    assert [(one.style, one.picture) for one in settings.styles] == [("ember", b""), ("", EMBER)]


def test_the_command_takes_pictures_of_styles(styles: Client, tmp_path: Path) -> None:
    for name, data in (("in.png", SCENE), ("red.png", EMBER), ("green=1.png", MOSS)):
        (tmp_path / name).write_bytes(data)
    out = tmp_path / "out.png"
    given = ["stylize", "--server", styles.target, str(tmp_path / "in.png"), str(out), "--overwrite"]
    assert main([*given, "--style-picture", str(tmp_path / "green=1.png")]) == 0
    assert near(np.asarray(Image.open(out)), direct(scene(), moss=1))
    both = ["--style-picture", f"{tmp_path}/red.png=0.25", "--style-picture", f"{tmp_path}/green=1.png=0.75"]
    assert main([*given, *both]) == 0
    assert near(np.asarray(Image.open(out)), direct(scene(), ember=0.25, moss=0.75))


def test_a_choice_is_told_by_what_is_in_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "style.png"
    told = []
    for data in (EMBER, MOSS):
        path.write_bytes(data)
        told.append(StyleChoice({path: 0.5, "ember": 0.5}).told())
        json.dumps(told[-1])
    assert told[0] != told[1]
    assert "ember" in told[0]["styles"]
