"""Turned photos through a real server: set upright, or refused with the reason; what is junk is never compared."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from oneglance import Client, OneglanceError, photo
from oneglance.v1.face_pb2 import Face
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, DECISION_NOT_COMPARED
from oneglance_server.app import Server
from tests.face_models import WINDOW, encoded, face_models, upright_look
from tests.face_models import photo as make_photo
from tests.running import server_thread

ADA, BOB = 1, 2
SIZE = (96, 128)
AT = (16, 24)
# Degrees that a photo is turned counterclockwise, and where the square at AT is then.
PLACES = {0: (16, 24), 90: (24, 96), 180: (96, 56), 270: (56, 16)}


def of(people: dict[tuple[int, int], int]) -> npt.NDArray[np.uint8]:
    return make_photo(people, size=SIZE, looks=upright_look)


def turned(pixels: npt.NDArray[np.uint8], degrees: int) -> bytes:
    """Counterclockwise, and nothing in the file tells."""
    return encoded(np.ascontiguousarray(np.rot90(pixels, degrees // 90)))


def corner(face: Face) -> tuple[int, int]:
    return round(face.box.x), round(face.box.y)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("turned")
    models = (face_models(folder / "models", check=True),)
    with server_thread(data_dir=folder / "data", models=models, min_face=10) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def gallery(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """Ada and Bob, each enrolled from an upright photo."""
    name = request.node.name[:100]
    client.create_gallery(name)
    for subject, person in (("ada", ADA), ("bob", BOB)):
        client.enroll(name, subject, turned(of({AT: person}), 0))
    yield name
    client.delete_gallery(name)


@pytest.mark.parametrize("degrees", PLACES)
def test_a_turned_photo_is_set_upright(client: Client, gallery: str, degrees: int) -> None:
    picture = turned(of({AT: ADA}), degrees)
    answer = client.identify(gallery, picture)
    (result,) = answer.results
    assert (result.subject_id, result.decision) == ("ada", DECISION_IDENTIFIED)
    assert result.candidates[0].distance < 1e-6
    assert answer.photos[0].turn_degrees == degrees
    assert (answer.photos[0].width, answer.photos[0].height) == (SIZE[::-1] if degrees % 180 == 0 else SIZE)
    # In pixels of the photo that came in, and upright after the turn.
    assert corner(result.face) == PLACES[degrees]
    assert (result.face.box.width, result.face.box.height) == (WINDOW, WINDOW)
    assert abs(result.face.quality.roll_degrees) < 1
    assert result.face.uprightness.upright
    assert result.face.uprightness.score == pytest.approx(0.854, abs=0.01)  # the chip has a border

    (enrolled,) = client.enroll(gallery, "eve", picture).faces
    assert corner(enrolled) == PLACES[degrees]
    assert client.verify(gallery, "eve", turned(of({AT: ADA}), 0)).distance < 1e-6


def test_a_mirrored_photo_is_upright(client: Client, gallery: str) -> None:
    answer = client.identify(gallery, encoded(np.ascontiguousarray(of({AT: ADA})[:, ::-1])))
    assert answer.photos[0].turn_degrees == 0
    assert answer.results[0].face.uprightness.upright


def test_a_turned_photo_is_refused_if_it_must_not_be_turned(client: Client, gallery: str) -> None:
    picture = photo(turned(of({AT: ADA}), 180), upright_only=True)
    with pytest.raises(OneglanceError) as caught:
        client.enroll(gallery, "eve", picture)
    assert caught.value.reason == "FACE_NOT_UPRIGHT"
    assert caught.value.photo is not None
    (face,) = caught.value.photo.faces
    assert not face.uprightness.upright
    assert face.uprightness.score < face.uprightness.threshold
    with pytest.raises(OneglanceError, match="eve"):
        client.get_subject(gallery, "eve")
    with pytest.raises(OneglanceError) as caught:
        client.encode(picture, encoder="tiny-faces")
    assert caught.value.reason == "FACE_NOT_UPRIGHT"
    with pytest.raises(OneglanceError) as caught:
        client.verify(gallery, "ada", picture)
    assert caught.value.reason == "FACE_NOT_UPRIGHT"

    (result,) = client.identify(gallery, picture).results
    assert result.decision == DECISION_NOT_COMPARED
    assert not result.candidates
    assert not result.subject_id
    assert not result.face.uprightness.upright


def mixed() -> bytes:
    """Ada upright, and something that looks like Bob on his head, to the left of her."""
    pixels = of({(64, 24): ADA})
    pixels[24 : 24 + WINDOW, 16 : 16 + WINDOW] = of({AT: BOB})[24 : 24 + WINDOW, 16 : 16 + WINDOW][::-1]
    return encoded(pixels)


def test_a_face_that_is_not_upright_has_an_answer_without_candidates(client: Client, gallery: str) -> None:
    answer = client.identify(gallery, turned(of({AT: BOB}), 0), mixed(), all_matches=True)
    found = {(r.probe_index, corner(r.face)): r for r in answer.results}
    assert set(found) == {(0, AT), (1, AT), (1, (64, 24))}
    assert found[0, AT].subject_id == "bob"
    assert found[1, (64, 24)].subject_id == "ada"
    assert found[1, AT].decision == DECISION_NOT_COMPARED
    assert not found[1, AT].candidates
    assert not found[1, AT].matches
    assert answer.photos[1].turn_degrees == 0  # someone is upright in it


def test_every_face_is_detected_and_told_to_be_upright_or_not(client: Client) -> None:
    seen = client.detect_faces(mixed(), turned(of({AT: ADA}), 90))
    first, second = seen.photos
    assert {corner(face): face.uprightness.upright for face in first.faces} == {AT: False, (64, 24): True}
    assert [(photo.turn_degrees, len(photo.faces)) for photo in (first, second)] == [(0, 2), (90, 1)]
    (kept,) = client.detect_faces(turned(of({AT: ADA}), 90), upright_only=True).photos
    assert (kept.turn_degrees, [face.uprightness.upright for face in kept.faces]) == (0, [False])


def test_the_largest_face_is_the_largest_upright_one(client: Client, gallery: str) -> None:
    answer = client.enroll(gallery, "eve", photo(mixed(), "largest"))
    assert [corner(face) for face in answer.faces] == [(64, 24)]


def test_two_finds_are_several_even_if_one_is_not_upright(client: Client, gallery: str) -> None:
    """It may be a second person, whom the check mistakes."""
    with pytest.raises(OneglanceError) as caught:
        client.enroll(gallery, "eve", mixed())
    assert caught.value.reason == "FACES_SEVERAL"


def test_without_a_check_whatever_is_found_counts(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("unchecked")
    models = (face_models(folder / "models"),)
    with (
        server_thread(data_dir=folder / "data", models=models, min_face=10) as running,
        Client(running.address) as client,
    ):
        client.create_gallery("people")
        (face,) = client.enroll("people", "ada", turned(of({AT: ADA}), 180)).faces
        assert not face.HasField("uprightness")
        answer = client.identify("people", turned(of({AT: ADA}), 180))
        assert answer.photos[0].turn_degrees == 0
        assert answer.results[0].subject_id == "ada"
