"""Encodings that come in a request have unit length where the gallery's encoder makes such, whichever way they come."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance import Client, FailedPreconditionError, InvalidArgumentError, encoding, enroll_request, identify_request
from oneglance.client.errors import from_error
from oneglance.client.requests import mate
from oneglance.v1.common_pb2 import Encoding
from oneglance.v1.moving_pb2 import (
    ExportGalleryRequest,
    ExportSettings,
    ImportGalleryRequest,
    ImportSettings,
    MovedSubject,
    MovedSubjects,
)
from oneglance_core.distance import UNIT_TOLERANCE
from oneglance_server.app import Server
from tests.models import SIDE, pixels_model
from tests.pictures import picture, png
from tests.running import server_thread
from tests.server.http_channel import http_client
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("unit")
    with server_thread(data_dir=folder / "data", models=[pixels_model(folder / "m", unit_norm=True)]) as running:
        with Client(running.address, timeout_seconds=PATIENCE_SECONDS) as client:
            client.create_gallery("g")
            client.enroll("g", "known", png(picture(1)))
        yield running


def of_length(server: Server, length: float) -> Encoding:
    with Client(server.address) as client:
        (model,) = client.list_models()
    assert model.unit_norm
    vector = np.zeros(SIDE * SIDE)
    vector[3:5] = length * np.array([0.6, 0.8])
    return encoding(vector, model.digest)


def bulk(client: Client, given: Encoding) -> None:
    (answer,) = client.bulk_enroll([enroll_request("g", "s", given)])
    if answer.HasField("error"):
        raise from_error(answer.error)


def stream(client: Client, given: Encoding) -> None:
    (answer,) = client.identify_stream([identify_request("g", given)])
    if answer.HasField("error"):
        raise from_error(answer.error)


WAYS: dict[str, tuple[Callable[[Client, Encoding], Any], str]] = {
    "enroll": (lambda c, e: c.enroll("g", "s", png(picture(2)), e), "examples[1].encoding.values"),
    "bulk": (bulk, "examples[0].encoding.values"),
    "negative": (lambda c, e: c.add_negative("g", "known", e), "example.encoding.values"),
    "identify": (lambda c, e: c.identify("g", png(picture(2)), e), "probes[1].encoding.values"),
    "identify-stream": (stream, "probes[0].encoding.values"),
    "verify": (lambda c, e: c.verify("g", "known", e), "probe.encoding.values"),
    "compare": (lambda c, e: c.compare(png(picture(2)), e), "other.encoding.values"),
}


@pytest.mark.parametrize("way", WAYS)
def test_another_length_is_refused(server: Server, way: str) -> None:
    call, field = WAYS[way]
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        with pytest.raises(InvalidArgumentError, match=r"has length 1\.5, the encoder's encodings have 1") as refused:
            call(client, of_length(server, 1.5))
        assert refused.value.reason == "ENCODING_INVALID"
        assert [path for path, _ in refused.value.field_violations] == [field]
        assert [one.id for one in client.list_subjects("g")] == ["known"]


def test_calibrate_skips_such_a_probe(server: Server) -> None:
    given = mate(of_length(server, 1.5), "known")
    with (
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        pytest.raises(FailedPreconditionError, match=r"probe\.example\.encoding\.values: has length 1\.5"),
    ):
        client.calibrate("g", [given])


@pytest.mark.parametrize("length", [1 - 0.9 * UNIT_TOLERANCE, 1.0, 1 + 0.9 * UNIT_TOLERANCE])
def test_rounding_is_no_other_length(server: Server, length: float) -> None:
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        client.identify("g", of_length(server, length))


def test_over_http_too(server: Server, tmp_path: Path) -> None:
    model = pixels_model(tmp_path / "m", unit_norm=True)
    with server_thread(data_dir=tmp_path / "data", models=[model], http="127.0.0.1:0") as running:
        client = http_client(running)
        client.create_gallery("g")
        with pytest.raises(InvalidArgumentError, match=r"has length 1\.5"):
            client.enroll("g", "s", of_length(server, 1.5))


@pytest.mark.parametrize("kind", ["encodings", "negatives"])
def test_of_a_gallery_that_is_moved_here(server: Server, kind: str) -> None:
    subject = MovedSubject(number=1, id="s")
    subject.encodings.add(number=0, values=_bytes(of_length(server, 1)))
    getattr(subject, kind).add(number=1, values=_bytes(of_length(server, 1.5)))
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        settings = ImportSettings(gallery_id="moved", digest="0" * 64)
        whole = [ExportGalleryRequest(settings=ExportSettings(gallery_id="g"))]
        settings.gallery.CopyFrom(next(client.export_gallery(whole)).begun.gallery)
        messages = [
            ImportGalleryRequest(settings=settings),
            ImportGalleryRequest(subjects=MovedSubjects(subjects=[subject])),
        ]
        with pytest.raises(InvalidArgumentError, match=r"has length 1\.5"):
            list(client.import_gallery(messages))
        client.delete_gallery("moved")


def _bytes(given: Encoding) -> bytes:
    return np.array(given.values, "<f4").tobytes()
