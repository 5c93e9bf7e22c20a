"""The table of stylization in docs/errors.md, row by row, against real servers."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from oneglance import Client, OneglanceError, stream_settings, stylize_settings
from oneglance.client.errors import from_error, raise_from
from oneglance.v1.stylization_pb2 import (
    StyleWeight,
    StylizeRequest,
    StylizeSettings,
    StylizeStreamRequest,
)
from tests.pictures import png
from tests.running import server_thread
from tests.server.test_bad_input import bomb, jpeg
from tests.style_models import STYLES, style_model

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
NAN = float("nan")
GOOD = png(np.full((8, 8, 3), 100, np.uint8))
Case = tuple[Callable[[Client], object], str, str, str]


@pytest.fixture(scope="module")
def client(tints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a server with small limits."""
    limits = {"max_stylize_pixels": 100_000, "max_frame_pixels": 10_000, "max_message_bytes": 1 << 17}
    settings = {"data_dir": tmp_path_factory.mktemp("data"), "models": (tints,), **limits}
    with server_thread(**settings) as server, Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def others(tints: Path, models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Client]]:
    """Of a server without a stylizer, and of one with two."""
    folder = tmp_path_factory.mktemp("others")
    two = (tints, style_model(folder / "two", name="two", styles=2))
    with (
        server_thread(data_dir=folder / "a", models=models) as none,
        server_thread(data_dir=folder / "b", models=two) as several,
        Client(none.address) as without,
        Client(several.address) as with_two,
    ):
        yield [without, with_two]


def weighed(*pairs: tuple[str, float]) -> Callable[[Client], object]:
    settings = StylizeSettings(styles=[StyleWeight(style=name, weight=weight) for name, weight in pairs])
    return asking(settings)


def asking(settings: StylizeSettings, image: bytes = GOOD) -> Callable[[Client], object]:
    return lambda c: c._call(c._stylization.Stylize, StylizeRequest(image=image, settings=settings))


def noise(height: int, width: int, format: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR).save(buffer, format, quality=40)
    return buffer.getvalue()


def streamed(*requests: StylizeStreamRequest) -> Callable[[Client], object]:
    def call(client: Client) -> object:
        try:
            return list(client._stylization.StylizeStream(iter(requests)))
        except grpc.RpcError as error:
            raise_from(error)

    return call


def steadiness(value: float) -> Callable[[Client], object]:
    return lambda c: list(c.stylize_stream([GOOD], "ember", steadiness=value))


FRAME = StylizeStreamRequest(frame=GOOD)
INVALID, WEIGHTS = "INVALID_ARGUMENT", "WEIGHTS_INVALID"
# slug: (call, gRPC status, reason, field)
CASES: dict[str, Case] = {
    "stylize-style-unknown": (
        weighed(("ember", 0.5), ("starry", 0.5)), "NOT_FOUND", "STYLE_NOT_FOUND", "settings.styles[1].style"),
    "stylize-model-unknown": (
        lambda c: c.stylize(GOOD, "ember", stylizer="pixels"), "NOT_FOUND", "MODEL_NOT_FOUND", ""),
    "stylize-no-style": (weighed(), INVALID, "EMPTY", "settings.styles"),
    "stylize-styles-too-many": (weighed(*[("ember", 1.0)] * 257), INVALID, "TOO_MANY", "settings.styles"),
    "stylize-weights-sum": (weighed(("ember", 0.5), ("moss", 0.502)), INVALID, WEIGHTS, "settings.styles"),
    "stylize-weight-negative": (
        weighed(("ember", -0.5), ("moss", 1.5)), INVALID, WEIGHTS, "settings.styles[0].weight"),
    "stylize-weight-nan": (weighed(("ember", 0.5), ("moss", NAN)), INVALID, WEIGHTS, "settings.styles[1].weight"),
    "stylize-style-twice": (weighed(("ember", 0.5), ("ember", 0.5)), INVALID, WEIGHTS, "settings.styles[1].style"),
    "stylize-strength": (
        lambda c: c.stylize(GOOD, "ember", strength=NAN), INVALID, "INVALID_REQUEST", "settings.strength"),
    "stylize-quality": (
        lambda c: c.stylize(GOOD, "ember", quality=101), INVALID, "INVALID_REQUEST", "settings.quality"),
    "stylize-format-unknown": (
        asking(StylizeSettings(styles=[StyleWeight(style="ember")], format=9)),  # type: ignore[arg-type]
        INVALID, "INVALID_REQUEST", "settings.format"),
    "stylize-max-side-negative": (
        lambda c: c.stylize(GOOD, "ember", max_side=-1), INVALID, "INVALID_REQUEST", "settings.max_side"),
    "stylize-stroke-size": (
        lambda c: c.stylize(GOOD, "ember", stroke_size=NAN), INVALID, "INVALID_REQUEST", "settings.stroke_size"),
    "stylize-stroke-size-small": (
        lambda c: c.stylize(noise(200, 200, "JPEG"), "ember", stroke_size=0.5), INVALID, "IMAGE_TOO_LARGE", "image"),
    "stylize-keep-faces": (
        lambda c: c.stylize(GOOD, "ember", keep_faces=NAN), INVALID, "INVALID_REQUEST", "settings.keep_faces"),
    "stylize-keep-faces-none": (
        lambda c: c.stylize(GOOD, "ember", keep_faces=0.5), "FAILED_PRECONDITION", "DETECTOR_NOT_LOADED", ""),
    "stylize-picture-nowhere": (
        lambda c: c.stylize(GOOD, GOOD), "FAILED_PRECONDITION", "STYLIZER_NOT_LOADED", ""),
    "stylize-picture-of-own-styles": (
        lambda c: c.stylize(GOOD, GOOD, stylizer="tints"), INVALID, "INVALID_REQUEST", "settings.styles[0].picture"),
    "stylize-image-empty": (lambda c: c.stylize(b"", "ember"), INVALID, "IMAGE_EMPTY", "image"),
    "stylize-image-undecodable": (lambda c: c.stylize(b"?", "ember"), INVALID, "IMAGE_UNDECODABLE", "image"),
    "stylize-image-truncated": (lambda c: c.stylize(jpeg()[:400], "ember"), INVALID, "IMAGE_UNDECODABLE", "image"),
    "stylize-image-bomb": (
        lambda c: c.stylize(bomb(), "ember", max_side=10), INVALID, "IMAGE_TOO_LARGE", "image"),
    "stylize-image-too-large": (
        lambda c: c.stylize(noise(400, 400, "JPEG"), "ember"), INVALID, "IMAGE_TOO_LARGE", "image"),
    "stylize-format-too-small": (
        lambda c: c.stylize(png(np.zeros((1, 20_000), np.uint8)), "ember", format="webp"),
        INVALID, "IMAGE_TOO_LARGE", "image"),
    "stylize-answer-too-large": (
        lambda c: c.stylize(noise(304, 304, "JPEG"), "ember", format="png"), INVALID, "ANSWER_TOO_LARGE", "image"),
    "stylize-stream-no-settings": (
        streamed(FRAME), INVALID, "SETTINGS_MISPLACED", "settings"),
    "stylize-stream-steadiness": (steadiness(1.0), INVALID, "INVALID_REQUEST", "settings.steadiness"),
}  # fmt: skip
# Cases with a test of their own here or in the named file.
ELSEWHERE = {
    "stylize-nothing-loaded": ("FAILED_PRECONDITION", "STYLIZER_NOT_LOADED"),
    "stylize-model-required": (INVALID, "MODEL_REQUIRED"),
    "stylize-queue-full": ("RESOURCE_EXHAUSTED", "QUEUE_FULL"),  # test_stylize_load.py
    "stylize-deadline": ("DEADLINE_EXCEEDED", ""),  # test_stylize_load.py
    "stylize-stream-frame-bad": (INVALID, "IMAGE_UNDECODABLE"),
}


def refused(call: Callable[[], object]) -> OneglanceError:
    with pytest.raises(OneglanceError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("slug", CASES)
def test_refused_with_a_typed_status(slug: str, client: Client) -> None:
    call, code, reason, field = CASES[slug]
    error = refused(lambda: call(client))
    assert (error.code.name, error.reason) == (code, reason)
    assert [path for path, _ in error.field_violations] == ([field] if field else [])
    assert client.stylize(GOOD, "ember").width == 8  # the server goes on


def test_the_documented_table_is_the_tested_one() -> None:
    rows = re.findall(
        r"^\| `(stylize-[a-z-]+)` \| .*? \| ([A-Z_]+) \| `?([A-Z_]*)`? ?\|", DOCS.read_text(), re.MULTILINE
    )
    documented = {slug: (code, reason) for slug, code, reason in rows}
    assert documented == {slug: case[1:3] for slug, case in CASES.items()} | ELSEWHERE


def test_an_unknown_style_is_answered_with_those_there_are(client: Client) -> None:
    error = refused(lambda: client.stylize(GOOD, "starry"))
    assert error.message == f"no style 'starry'; there are {', '.join(STYLES)}"
    assert error.metadata == {"style": "starry"}


@pytest.mark.parametrize("value", [-0.01, 1.01, float("inf"), NAN])
def test_shares_outside_their_range(client: Client, value: float) -> None:
    assert refused(lambda: client.stylize(GOOD, "ember", strength=value)).reason == "INVALID_REQUEST"
    assert refused(lambda: steadiness(value)(client)).reason == "INVALID_REQUEST"
    assert refused(lambda: client.stylize(GOOD, {"ember": value})).reason == "WEIGHTS_INVALID"


def test_a_thin_picture_counts_as_what_it_is_lengthened_to(client: Client) -> None:
    assert client.stylize(png(np.zeros((1, 1500), np.uint8)), "ember").width == 1500  # 64 x 1500 pixels
    error = refused(lambda: client.stylize(png(np.zeros((1, 1600), np.uint8)), "ember"))
    assert error.reason == "IMAGE_TOO_LARGE"
    assert client.stylize(png(np.zeros((1, 1600), np.uint8)), "ember", max_side=1500).width == 1500


def test_the_answer_that_is_too_large_says_how_to_ask(client: Client) -> None:
    error = refused(lambda: client.stylize(noise(304, 304, "JPEG"), "ember", format="png"))
    assert int(error.metadata["bytes"]) > int(error.metadata["limit"]) > 130_000
    assert client.stylize(noise(304, 304, "JPEG"), "ember", format="jpeg").width == 304


def test_without_a_stylizer(others: list[Client]) -> None:
    client = others[0]
    assert client.list_styles() == []
    for call in (lambda: client.stylize(GOOD, "ember"), lambda: list(client.stylize_stream([GOOD], "ember"))):
        error = refused(call)
        assert (error.code.name, error.reason) == ELSEWHERE["stylize-nothing-loaded"]


def test_with_two_stylizers_one_must_be_named(others: list[Client]) -> None:
    client = others[1]
    error = refused(lambda: client.stylize(GOOD, "ember"))
    assert (error.code.name, error.reason) == ELSEWHERE["stylize-model-required"]
    assert [path for path, _ in error.field_violations] == ["settings.stylizer"]
    digest = client.describe_model("two").model.digest
    assert client.stylize(GOOD, "ember", stylizer=digest).stylizer_digest == digest
    assert refused(lambda: client.stylize(GOOD, STYLES[3], stylizer="two")).reason == "STYLE_NOT_FOUND"


def test_the_settings_of_a_stream_end_it_and_a_frame_does_not(client: Client) -> None:
    large = png(np.zeros((101, 101), np.uint8))  # more than max_frame_pixels
    answers = list(client.stylize_stream([GOOD, b"?", large, GOOD], "ember", every_frame=True))
    assert [answer.WhichOneof("outcome") for answer in answers] == ["picture", "error", "error", "picture"]
    errors = [from_error(answer.error) for answer in answers[1:3]]
    assert [error.reason for error in errors] == ["IMAGE_UNDECODABLE", "IMAGE_TOO_LARGE"]
    assert [error.field_violations[0][0] for error in errors] == ["frame", "frame"]
    settings = stream_settings(stylize_settings("starry"))
    error = refused(lambda: list(client.stylize_stream([], "starry")))
    assert error.field_violations[0][0] == "settings.settings.styles[0].style"
    error = refused(lambda: list(client.stylize_stream([GOOD, settings, GOOD], "ember", every_frame=True)))
    assert (error.code.name, error.reason) == ("NOT_FOUND", "STYLE_NOT_FOUND")
    for requests in ((), (StylizeStreamRequest(),)):
        assert refused(lambda requests=requests: streamed(*requests)(client)).reason == "SETTINGS_MISPLACED"  # type: ignore[misc]
