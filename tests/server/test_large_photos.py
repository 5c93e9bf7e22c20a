"""A photo that is decoded at half its sides is answered in the pixels of its file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from oneglance import Client, OneglanceError, photo
from tests import face_models
from tests.face_models import encoded
from tests.face_models import face_models as make_models
from tests.running import server_thread

ADA, BOB, CYD = 1, 2, 3
WIDTH, HEIGHT, SIDE = 256, 192, 32
PEOPLE = {(16, 16): ADA, (96, 80): BOB, (192, 128): CYD}
GROUP = encoded(
    face_models.photo(PEOPLE, size=(HEIGHT, WIDTH), side=SIDE), "JPEG", quality=100, subsampling=0, keep_rgb=True
)
PROGRESSIVE = encoded(face_models.photo(PEOPLE, size=(HEIGHT, WIDTH), side=SIDE), "JPEG", progressive=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=["whole", "halved"])
def client(request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    most = WIDTH * HEIGHT // (1 if request.param == "whole" else 4)
    with (
        server_thread(
            data_dir=tmp_path_factory.mktemp("large"), models=(models,), min_face=10, max_image_pixels=most
        ) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", quality_policy="off")
        for person, name in ((ADA, "ada"), (BOB, "bob")):
            client.enroll("g", name, encoded(face_models.photo({(32, 24): person})))
        yield client


def test_boxes_points_and_sizes_are_those_of_the_file(client: Client) -> None:
    answer = client.identify("g", GROUP, tau=1.0)
    assert (answer.photos[0].width, answer.photos[0].height) == (WIDTH, HEIGHT)
    places = {(round(r.face.box.x), round(r.face.box.y)) for r in answer.results}
    assert len(answer.results) == 3
    for x, y in PEOPLE:
        assert any(abs(x - a) <= 4 and abs(y - b) <= 4 for a, b in places)
    for result in answer.results:
        box = result.face.box
        assert abs(box.width - SIDE) <= 8
        assert abs(box.height - SIDE) <= 8
        for point in result.face.landmarks:
            assert box.x - 4 <= point.x <= box.x + box.width + 4
            assert box.y - 4 <= point.y <= box.y + box.height + 4
    (detected,) = client.detect_faces(GROUP).photos
    assert {(round(face.box.x), round(face.box.y)) for face in detected.faces} == places


def test_a_box_of_the_caller_is_in_the_pixels_of_the_file(client: Client) -> None:
    for (x, y), _ in PEOPLE.items():
        (result,) = client.identify("g", photo(GROUP, (x + 4, y + 4, SIDE - 8, SIDE - 8))).results
        assert abs(result.face.box.x - x) <= 4
        assert abs(result.face.box.y - y) <= 4
    with pytest.raises(OneglanceError) as caught:
        client.verify("g", "ada", GROUP)
    assert caught.value.reason == "FACES_SEVERAL"
    assert caught.value.photo is not None
    assert (caught.value.photo.width, caught.value.photo.height) == (WIDTH, HEIGHT)
    assert " at (16, 16)" in str(caught.value)


def test_more_pixels_than_fit_are_refused(client: Client) -> None:
    if client.identify("g", GROUP).photos[0].smallest_face > 15:  # the halved one
        with pytest.raises(OneglanceError) as caught:
            client.identify("g", PROGRESSIVE)
        assert caught.value.reason == "IMAGE_TOO_LARGE"
