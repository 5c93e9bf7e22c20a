"""Inputs that are not of the kind that an encoder is made for: refused or told of, with figure and limit."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance import Client, OneglanceError
from oneglance_core.folder import read_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_server.settings import BUNDLED_MODEL
from tests.running import server_thread

DRAWINGS = [np.repeat(one.drawings[0][..., None], 3, axis=2) for one in alphabet(7, 3, 1)]
LIMITS = {limit.figure: limit for limit in read_model_folder(BUNDLED_MODEL).manifest.made_for.limits}  # type: ignore[union-attr]


def png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photo_like(seed: int) -> bytes:
    """Smooth shades of gray, as photos have."""
    small = np.random.default_rng(seed).integers(40, 200, (8, 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((160, 160), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("fit")
    with (
        server_thread(data_dir=folder / "data", models=(BUNDLED_MODEL,)) as server,
        Client(server.address) as connected,
    ):
        connected.create_gallery("drawings")
        connected.enroll("drawings", "alef", png(DRAWINGS[0]))
        yield connected


def test_drawings_are_taken_without_a_word(client: Client) -> None:
    answer = client.enroll("drawings", "bet", png(DRAWINGS[1]), DRAWINGS[2][..., :1].copy())
    assert not answer.breaches
    assert not client.identify("drawings", png(DRAWINGS[1])).results[0].breaches


@pytest.mark.parametrize(
    ("picture", "figures"),
    [
        (photo_like(0), {"light", "middle"}),
        (png(255 - DRAWINGS[0]), {"light", "dark"}),
        (png(np.full((105, 105, 3), 255, np.uint8)), {"deviation", "detail"}),
        (png(np.random.default_rng(0).integers(0, 256, (105, 105, 3), dtype=np.uint8)), {"light", "middle", "detail"}),
    ],
    ids=["photo", "inverted", "blank", "noise"],
)
def test_other_pictures_are_refused_at_enrollment_with_figure_and_limit(
    client: Client, picture: bytes, figures: set[str]
) -> None:
    with pytest.raises(OneglanceError) as caught:
        client.enroll("drawings", "other", png(DRAWINGS[1]), picture)
    error = caught.value
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INPUT_UNFIT")
    assert error.field_violations[0][0] == "examples[1].image"
    assert {one.figure for one in error.breaches} == figures
    for one in error.breaches:
        assert (one.least, one.most) == (LIMITS[one.figure].least, LIMITS[one.figure].most)
        assert not one.least <= one.value <= one.most
    answer = client.enroll("drawings", "other", picture, accept_breaches=True)
    assert {one.figure for one in answer.breaches} == figures
    client.delete_subject("drawings", "other")


def test_a_tensor_is_held_to_the_limits_too(client: Client) -> None:
    with pytest.raises(OneglanceError) as caught:
        client.enroll("drawings", "other", 255 - DRAWINGS[1][..., :1])
    assert caught.value.reason == "INPUT_UNFIT"
    assert caught.value.breaches[0].field == "examples[0].tensor"


def test_other_answers_tell_of_it(client: Client) -> None:
    photo, drawing = photo_like(1), png(DRAWINGS[0])
    first, second = client.identify("drawings", drawing, photo).results
    assert not first.breaches
    assert {(one.field, one.figure) for one in second.breaches} == {
        ("probes[1].image", "light"),
        ("probes[1].image", "middle"),
    }
    assert {one.field for one in client.verify("drawings", "alef", photo).breaches} == {"probe.image"}
    assert {one.field for one in client.compare(drawing, photo, encoder=BUNDLED_MODEL.name).breaches} == {"other.image"}


def test_a_model_says_what_it_is_made_for(client: Client) -> None:
    (model,) = client.list_models()
    assert {(one.figure, one.least, one.most) for one in model.input_limits} == {
        (limit.figure, limit.least, limit.most) for limit in LIMITS.values()
    }


@pytest.mark.parametrize("setting", ["tell", "ignore"])
def test_the_server_can_be_told_to_go_on(tmp_path: Path, setting: str) -> None:
    with (
        server_thread(data_dir=tmp_path, models=(BUNDLED_MODEL,), unfit_inputs=setting) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g")
        told = {one.figure for one in client.enroll("g", "a", photo_like(0)).breaches}
        assert told == ({"light", "middle"} if setting == "tell" else set())
        assert bool(client.identify("g", photo_like(0)).results[0].breaches) == (setting == "tell")
