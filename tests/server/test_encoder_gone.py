"""A gallery whose encoder isn't loaded: whatever takes the encoder is told so, and nothing about thresholds first."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oneglance import Client, OneglanceError
from oneglance.client.errors import from_error
from oneglance.client.requests import enroll_request, identify_request, mate, stranger
from oneglance.v1.common_pb2 import Encoding
from oneglance.v1.error_pb2 import Error
from oneglance_core.folder import read_model_folder
from oneglance_core.fusion import Fusion
from oneglance_core.glyphs import alphabet
from oneglance_server.service.encoders import FORMER
from oneglance_server.settings import BUNDLED_MODEL
from tests.pictures import picture, png
from tests.running import server_thread

PROBE = picture(5)
GALLERIES: tuple[Fusion, ...] = ("nearest", "mean", "margin")


@pytest.fixture(scope="module")
def left(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Encoding]]:
    """A client of a server with galleries whose encoder isn't loaded any more, and an encoding by it."""
    data = tmp_path_factory.mktemp("left")
    with server_thread(data_dir=data, models=models) as server, Client(server.address) as client:
        for gallery in GALLERIES:
            client.create_gallery(gallery, encoder="pixels", fusion=gallery)
            for i in range(4):
                client.enroll(gallery, f"s{i}", picture(i))
        client.create_gallery("empty", encoder="pixels")
        point = client.encode(PROBE, encoder="pixels").encodings[0]
    with server_thread(data_dir=data, models=models[1:]) as server, Client(server.address, retry=False) as client:
        yield client, point


def raised(error: Error) -> None:
    raise from_error(error)


CALLS: dict[str, Callable[[Client, str], object]] = {
    "identify": lambda client, gallery: client.identify(gallery, PROBE),
    "identify, with a tau": lambda client, gallery: client.identify(gallery, PROBE, tau=0.1),
    "identify, all matches": lambda client, gallery: client.identify(gallery, PROBE, all_matches=True),
    "identify, a stream": lambda client, gallery: raised(
        next(iter(client.identify_stream(iter([identify_request(gallery, [PROBE])])))).error
    ),
    "verify": lambda client, gallery: client.verify(gallery, "s1", PROBE),
    "verify, nobody": lambda client, gallery: client.verify(gallery, "nobody", PROBE),
    "compare": lambda client, gallery: client.compare(PROBE, picture(6), gallery_id=gallery),
    "enroll": lambda client, gallery: client.enroll(gallery, "new", PROBE),
    "enroll, accepting": lambda client, gallery: client.enroll(gallery, "new", PROBE, accept_breaches=True),
    "enroll, a stream": lambda client, gallery: raised(
        next(iter(client.bulk_enroll(iter([enroll_request(gallery, "new", [PROBE])])))).error
    ),
    "calibrate": lambda client, gallery: client.calibrate(gallery, [stranger(PROBE), stranger(picture(6))]),
    "calibrate, mates": lambda client, gallery: client.calibrate(gallery, [mate(PROBE, "s1")]),
}


@pytest.mark.parametrize("gallery", [*GALLERIES, "empty"])
@pytest.mark.parametrize("call", CALLS)
def test_its_absence_is_told_first(left: tuple[Client, Encoding], call: str, gallery: str) -> None:
    client, point = left
    with pytest.raises(OneglanceError) as caught:
        CALLS[call](client, gallery)
    reason = "GALLERY_EMPTY" if gallery == "empty" and call.startswith("calibrate") else "ENCODER_NOT_LOADED"
    assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", reason)
    if reason == "ENCODER_NOT_LOADED":
        assert caught.value.metadata == {"encoder_digest": point.encoder_digest}


@pytest.mark.parametrize("gallery", GALLERIES)
def test_encodings_need_no_encoder_but_a_threshold(left: tuple[Client, Encoding], gallery: str) -> None:
    client, point = left
    assert client.identify(gallery, point, tau=0.5).results
    for call in (
        lambda: client.identify(gallery, point),
        lambda: client.verify(gallery, "s1", point),
        lambda: client.get_threshold(gallery),
    ):
        with pytest.raises(OneglanceError) as caught:
            call()
        assert caught.value.reason == "THRESHOLD_MISSING"
        assert "calibrate the gallery" in caught.value.message or "not loaded here" in caught.value.message


def test_of_an_encoder_that_was_the_bundled_one_before_it_is_told_what_to_load(tmp_path: Path) -> None:
    former = BUNDLED_MODEL.parent / "glyphs"
    drawing = png(next(alphabet(7, 1, 1)).drawings[0])
    with server_thread(data_dir=tmp_path, models=(former,)) as server, Client(server.address) as client:
        client.create_gallery("drawings")
        client.enroll("drawings", "alef", drawing)
        point = client.encode(drawing).encodings[0]
    load = "--models must name bundled-glyphs, too"
    with server_thread(data_dir=tmp_path, models=(BUNDLED_MODEL,)) as server, Client(server.address) as client:
        for call in (
            lambda: client.identify("drawings", drawing),
            lambda: client.enroll("drawings", "bet", drawing),
            lambda: client.create_gallery("more", encoder="glyphs"),
        ):
            with pytest.raises(OneglanceError) as caught:
                call()
            assert load in caught.value.message
        assert client.identify("drawings", point).results[0].subject_id == "alef"
    models = (former, BUNDLED_MODEL)
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        assert client.identify("drawings", drawing).results[0].subject_id == "alef"


@pytest.mark.parametrize("digest", FORMER)
def test_encoders_that_were_bundled_still_are(digest: str) -> None:
    assert read_model_folder(BUNDLED_MODEL.parent / FORMER[digest]).digest == digest
