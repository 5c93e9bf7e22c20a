"""Photos through a real server, with face models whose answers can be told by hand (tests/face_models.py)."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prometheus_client import generate_latest

from oneglance import Client, OneglanceError, enroll_request, identify_request, photo, tensor
from oneglance.v1.common_pb2 import Example
from oneglance.v1.face_pb2 import Box, Face, FaceSelector
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, DECISION_UNKNOWN, IdentifyResponse
from oneglance_server.app import Server
from tests import face_models
from tests.face_models import WINDOW, encoded
from tests.face_models import face_models as make_models
from tests.models import pixels_model
from tests.running import server_thread

ADA, BOB, CYD, STRANGER = 1, 2, 3, 99


def one(person: int, at: tuple[int, int] = (16, 24)) -> bytes:
    return encoded(face_models.photo({at: person}))


GROUP_PLACES = {(8, 8): ADA, (48, 40): BOB, (96, 64): STRANGER}
GROUP = encoded(face_models.photo(GROUP_PLACES))
NOBODY = encoded(face_models.photo({}))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("faces")
    with server_thread(data_dir=folder / "data", models=(make_models(folder / "models"),), min_face=10) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def gallery(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """Ada and Bob, each enrolled from one photo."""
    name = request.node.name[:100]
    client.create_gallery(name, quality_policy="off")  # the tiny faces are too small for any other
    client.enroll(name, "ada", one(ADA))
    client.enroll(name, "bob", one(BOB, (40, 8)))
    yield name
    client.delete_gallery(name)


def corner(face: Face) -> tuple[int, int]:
    return round(face.box.x), round(face.box.y)


def test_a_photo_is_enrolled_from_its_only_face(client: Client, gallery: str) -> None:
    answer = client.enroll(gallery, "cyd", one(CYD, (64, 32)))
    (face,) = answer.faces
    assert (corner(face), face.box.width, face.box.height) == ((64, 32), WINDOW, WINDOW)
    assert face.score == pytest.approx(0.15, abs=1e-5)
    assert len(face.landmarks) == 5
    assert 0 <= face.quality.brightness <= 1
    assert abs(face.quality.roll_degrees) < 1
    result = client.identify(gallery, one(CYD, (20, 4))).results[0]
    assert (result.subject_id, result.decision) == ("cyd", DECISION_IDENTIFIED)
    assert result.candidates[0].distance < 1e-4


def test_a_group_photo_is_answered_face_by_face(client: Client, gallery: str) -> None:
    answer = client.identify(gallery, one(BOB), GROUP, NOBODY)
    by_place = {corner(r.face): r for r in answer.results if r.probe_index == 1}
    assert set(by_place) == set(GROUP_PLACES)
    assert by_place[8, 8].subject_id == "ada"
    assert by_place[48, 40].subject_id == "bob"
    assert by_place[96, 64].decision == DECISION_UNKNOWN
    assert [r.subject_id for r in answer.results if r.probe_index == 0] == ["bob"]
    assert not [r for r in answer.results if r.probe_index == 2]
    assert set(answer.photos) == {0, 1, 2}
    assert (answer.photos[2].width, answer.photos[2].height) == (128, 96)
    assert answer.photos[2].smallest_face == pytest.approx(10)  # the second search was made, too
    assert answer.photos[0].smallest_face == pytest.approx(10)  # Bob's face is too small for a portrait


def test_a_photo_without_faces_alone_is_no_error_in_identify(client: Client, gallery: str) -> None:
    answer = client.identify(gallery, NOBODY)
    assert not answer.results
    assert answer.threshold.tau == 0.05
    assert answer.provenance.gallery_size == 2
    assert answer.provenance.gallery_revision == 2


@pytest.mark.parametrize(("picture", "reason", "seen"), [(NOBODY, "FACE_NOT_FOUND", 0), (GROUP, "FACES_SEVERAL", 3)])
def test_none_or_several_faces_are_refused_with_what_was_seen(
    client: Client, gallery: str, picture: bytes, reason: str, seen: int
) -> None:
    for call, field in (
        (lambda: client.enroll(gallery, "new", one(CYD), picture), "examples[1].image"),
        (lambda: client.verify(gallery, "ada", picture), "probe.image"),
        (lambda: client.compare(one(ADA), picture), "other.image"),
        (lambda: client.encode(picture), "examples[0].image"),
    ):
        with pytest.raises(OneglanceError) as caught:
            call()
        error = caught.value
        assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", reason)
        assert error.field_violations[0][0] == field
        assert error.photo is not None
        assert {corner(face) for face in error.photo.faces} == (set(GROUP_PLACES) if seen else set())
        assert error.metadata["faces"] == str(seen)
    assert client.get_gallery(gallery).subject_count == 2


def test_the_caller_can_say_which_face(client: Client, gallery: str) -> None:
    for box, person in (((50, 42, 10, 10), "bob"), ((0, 0, 20, 20), "ada")):
        assert client.verify(gallery, person, photo(GROUP, box)).same
        assert [r.subject_id for r in client.identify(gallery, photo(GROUP, box)).results] == [person]
    with pytest.raises(OneglanceError) as caught:
        client.verify(gallery, "ada", photo(GROUP, (120, 0, 5, 5)))
    assert caught.value.reason == "FACE_NOT_FOUND"
    assert len(caught.value.photo.faces if caught.value.photo else ()) == 3
    # Ada is nearer to the camera: the largest face.
    pixels = face_models.photo({(8, 16): BOB}, size=(128, 192))
    big = face_models.photo({(0, 0): ADA}, size=(64, 64), side=2 * WINDOW)
    pixels[32:96, 96:160] = big
    assert client.verify(gallery, "ada", photo(encoded(pixels), "largest")).same


def test_an_aligned_face_and_an_encoding_are_taken_as_they_are(client: Client, gallery: str) -> None:
    (values,) = client.encode(one(ADA)).encodings
    assert client.identify(gallery, values).results[0].subject_id == "ada"
    chip = np.asarray(Image.open(io.BytesIO(one(ADA))))[24 : 24 + WINDOW, 16 : 16 + WINDOW]
    result = client.identify(gallery, photo(encoded(chip), "aligned"), tau=0.5).results[0]
    assert result.subject_id == "ada"
    assert not result.HasField("face")
    assert client.verify(
        gallery, "ada", tensor(np.asarray(Image.fromarray(chip).resize((8, 8), Image.Resampling.BOX))), tau=0.5
    ).same


def wide_view(side: int) -> bytes:
    """Bob with a face of ``side`` pixels in a photo 96 pixels high, and Ada far behind him."""
    pixels = face_models.photo({(24, 40): ADA}, size=(96, 192), side=10)
    pixels[16 : 16 + side, 80 : 80 + side] = face_models.photo({(0, 0): BOB}, size=(side, side), side=side)
    return encoded(pixels)


@pytest.mark.parametrize(("side", "faces"), [(WINDOW, 2), (2 * WINDOW, 1)])
def test_every_face_of_a_wide_view_is_answered_and_only_the_portrait_of_a_portrait(
    client: Client, gallery: str, side: int, faces: int
) -> None:
    # 16 of 96 pixels are less than 0.3, 32 are more.
    answer = client.identify(gallery, wide_view(side))
    assert [r.candidates[0].subject_id for r in answer.results] == ["bob", "ada"][:faces]
    assert answer.photos[0].smallest_face == pytest.approx(10 if faces == 2 else WINDOW)  # says what it didn't look for
    assert len(client.detect_faces(wide_view(side)).photos[0].faces) == faces
    assert len(client.detect_faces(wide_view(side), small_faces="when-wide").photos[0].faces) == faces
    assert len(client.detect_faces(wide_view(side), small_faces="when-none").photos[0].faces) == 1
    assert len(client.detect_faces(wide_view(side), small_faces="always").photos[0].faces) == 2


def test_where_one_face_is_needed_small_ones_behind_it_are_not_looked_for(client: Client, gallery: str) -> None:
    assert client.verify(gallery, "bob", wide_view(WINDOW)).same
    with pytest.raises(OneglanceError) as caught:
        client.verify(gallery, "bob", photo(wide_view(WINDOW), small_faces="when-wide"))
    assert caught.value.reason == "FACES_SEVERAL"
    assert client.verify(
        gallery, "ada", photo(wide_view(WINDOW), (24, 40, 10, 10)), tau=0.5
    ).same  # a box may hold a small one


def test_small_faces_are_found_in_the_enlarged_photo(client: Client) -> None:
    tiny = encoded(face_models.photo({(20, 30): ADA}, size=(96, 128), side=10))
    found = client.detect_faces(tiny, NOBODY).photos
    assert len(found[0].faces) == 1
    box = found[0].faces[0].box
    assert (box.x, box.y, box.width) == pytest.approx((20, 30, 10), abs=1.5)
    assert not client.detect_faces(tiny, small_faces="never").photos[0].faces
    both = face_models.photo({(20, 30): ADA}, size=(96, 128), side=10)
    both[48 : 48 + WINDOW, 64 : 64 + WINDOW] = face_models.photo({(0, 0): BOB}, size=(WINDOW, WINDOW))
    assert len(client.detect_faces(encoded(both), small_faces="when-none").photos[0].faces) == 1
    assert len(client.detect_faces(encoded(both), small_faces="always").photos[0].faces) == 2


def test_large_faces_are_found_further_down_the_pyramid(client: Client) -> None:
    for side in (2 * WINDOW, 4 * WINDOW):
        pixels = face_models.photo({(side // 2, side // 4): ADA}, size=(192, 256), side=side)
        (face,) = client.detect_faces(encoded(pixels)).photos[0].faces
        assert (face.box.x, face.box.y, face.box.width) == pytest.approx((side // 2, side // 4, side), abs=side / 16)


def test_exif_orientation_is_honoured_and_boxes_are_of_the_upright_photo(client: Client, gallery: str) -> None:
    upright = face_models.photo({(16, 24): ADA})
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    stored = np.rot90(upright, 1)
    answer = client.identify(gallery, encoded(np.ascontiguousarray(stored), exif=exif))
    assert (answer.photos[0].width, answer.photos[0].height) == (128, 96)
    assert corner(answer.results[0].face) == (16, 24)
    assert answer.results[0].subject_id == "ada"


@pytest.mark.parametrize(
    ("mode", "format"),
    [("CMYK", "TIFF"), ("RGBA", "PNG"), ("P", "GIF"), ("RGB", "WEBP"), ("RGB", "BMP"), ("RGB", "PPM")],
)
def test_photos_of_every_kind_are_read(client: Client, gallery: str, mode: str, format: str) -> None:
    buffer = io.BytesIO()
    options = {"lossless": True} if format == "WEBP" else {}
    Image.fromarray(face_models.photo({(16, 24): ADA})).convert(mode).save(buffer, format, **options)
    assert len(client.detect_faces(buffer.getvalue()).photos[0].faces) == 1


def test_streams_answer_photo_by_photo_and_survive_bad_ones(client: Client, gallery: str) -> None:
    frames = [one(ADA), b"no picture", NOBODY, GROUP]
    answers = list(client.identify_stream(identify_request(gallery, [frame]) for frame in frames))
    assert [len(a.response.results) for a in answers] == [1, 0, 0, 3]
    assert answers[1].error.reason == "IMAGE_UNDECODABLE"
    enrolled = list(
        client.bulk_enroll([enroll_request(gallery, "x", [GROUP]), enroll_request(gallery, "y", [one(CYD)])])
    )
    assert enrolled[0].error.reason == "FACES_SEVERAL"
    assert len(enrolled[0].error.photo.faces) == 3
    assert enrolled[1].enrolled.created


def test_too_many_faces_keep_the_largest(tmp_path: Path) -> None:
    with (
        server_thread(
            data_dir=tmp_path / "d", models=(make_models(tmp_path / "m"),), max_faces=2, max_photo_batch=4
        ) as s,
        Client(s.address) as client,
    ):
        seen = client.detect_faces(GROUP, one(ADA), GROUP, NOBODY).photos
        assert [(len(photo.faces), photo.faces_truncated) for photo in seen] == [
            (2, True),
            (1, False),
            (2, True),
            (0, False),
        ]


def test_a_large_photo_is_searched_shrunk_and_says_so(tmp_path: Path) -> None:
    pixels = face_models.photo({(128, 64): ADA}, size=(384, 512), side=4 * WINDOW)
    models = (make_models(tmp_path / "m"),)
    with (
        server_thread(data_dir=tmp_path / "d", models=models, search_pixels=384 * 512 // 16, min_face=10) as s,
        Client(s.address) as c,
    ):
        (seen,) = c.detect_faces(encoded(pixels), small_faces="never").photos
        assert seen.smallest_face == pytest.approx(4 * WINDOW)
        assert corner(seen.faces[0]) == pytest.approx((128, 64), abs=4)
        assert c.detect_faces(encoded(pixels), small_faces="always").photos[0].smallest_face == pytest.approx(
            2 * WINDOW
        )


def test_a_call_may_have_a_large_photo_searched_as_it_is(tmp_path: Path) -> None:
    """In tiles: nobody is lost between two of them, nor seen in both."""
    places = [(x, y) for x in range(20, 490, 44) for y in range(16, 360, 44)]
    pixels = face_models.photo(dict.fromkeys(places, ADA), size=(384, 512))
    models = (make_models(tmp_path / "m"),)
    with server_thread(data_dir=tmp_path / "d", models=models, search_pixels=20_000) as s, Client(s.address) as c:
        c.create_gallery("g", quality_policy="off")
        c.enroll("g", "ada", one(ADA))

        def look(search_pixels: int) -> IdentifyResponse:
            return c.identify("g", photo(encoded(pixels), small_faces="never", search_pixels=search_pixels))

        assert not look(0).results
        seen = look(384 * 512)
        assert seen.photos[0].smallest_face == WINDOW
        found = sorted(corner(one.face) for one in seen.results)
        assert found == sorted(places)
        assert {one.subject_id for one in seen.results} == {"ada"}
        assert seen == look(16_000_000)
        assert WINDOW < look(384 * 512 // 2).photos[0].smallest_face < 1.5 * WINDOW
        for wrong in (-1, 16_000_001):
            with pytest.raises(OneglanceError) as caught:
                look(wrong)
            assert caught.value.field_violations[0][0] == "probes[0].face.search_pixels"


def test_without_a_detector_only_aligned_faces_are_taken(tmp_path: Path) -> None:
    folder = make_models(tmp_path / "m")
    with server_thread(data_dir=tmp_path / "d", models=(folder / "encoder",)) as s, Client(s.address) as client:
        client.create_gallery("g", quality_policy="off")
        for call in (lambda: client.enroll("g", "ada", one(ADA)), lambda: client.detect_faces(one(ADA))):
            with pytest.raises(OneglanceError) as caught:
                call()
            assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", "DETECTOR_NOT_LOADED")
        assert client.enroll("g", "ada", photo(one(ADA), "aligned")).created


def test_an_encoder_of_other_things_takes_pictures_as_before(tmp_path: Path) -> None:
    models = (make_models(tmp_path / "m"), pixels_model(tmp_path / "pixels"))
    with server_thread(data_dir=tmp_path / "d", models=models) as server, Client(server.address) as client:
        client.create_gallery("drawings", encoder="pixels")
        answer = client.enroll("drawings", "it", one(ADA))
        assert not answer.faces
        assert client.identify("drawings", one(ADA)).results[0].subject_id == "it"
        kinds = {model.name: (model.kind, model.takes_photos) for model in client.list_models()}
        assert kinds == {
            "pixels": ("encoder", False),
            "tiny-detector": ("detector", False),
            "tiny-faces": ("encoder", True),
            "tiny-landmarks": ("landmarks", False),
        }
        assert '"kind": "detector"' in client.describe_model("tiny-detector").manifest_json


@pytest.mark.parametrize(
    "selector",
    [
        FaceSelector(box=Box(x=float("nan"), y=0, width=1, height=1)),
        FaceSelector(box=Box(x=0, y=0, width=0, height=5)),
        FaceSelector(largest=False),
        FaceSelector(aligned=False),
        FaceSelector(small_faces=17),  # type: ignore[arg-type]
    ],
)
def test_a_selector_that_is_none_is_refused(client: Client, gallery: str, selector: FaceSelector) -> None:
    with pytest.raises(OneglanceError) as caught:
        client.identify(gallery, Example(image=GROUP, face=selector))
    assert caught.value.code.name == "INVALID_ARGUMENT"
    assert caught.value.field_violations[0][0].startswith("probes[0].face.")


def test_each_stage_has_its_metric(server: Server, client: Client, gallery: str) -> None:
    client.identify(gallery, GROUP)
    text = generate_latest(server._metrics.registry).decode()
    for stage in ("decode", "detect", "align"):
        assert f'oneglance_stage_seconds_count{{stage="{stage}"}}' in text
    assert 'oneglance_batch_rows_count{stage="photo"}' in text
