"""A gallery's own least gap: where a request has none, in Identify and streams alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from oneglance import Client, OneglanceError, identify_request
from oneglance.v1.gallery_pb2 import SetLeastGapRequest
from oneglance.v1.identification_pb2 import UNKNOWN_REASON_AMBIGUOUS, IdentifyResult
from tests.pictures import picture
from tests.running import server_thread

ENOUGH = 4.0  # more than any gap


@pytest.fixture(scope="module")
def client(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        server_thread(data_dir=tmp_path_factory.mktemp("gap"), models=models) as server,
        Client(server.address) as connected,
    ):
        yield connected


def enroll_two(client: Client, gallery: str) -> None:
    client.enroll(gallery, "it", picture(5))
    client.enroll(gallery, "other", picture(6))


def answers(client: Client, gallery: str, least_gap: float | None) -> list[IdentifyResult]:
    """Of a call, and of a stream."""
    request = identify_request(gallery, [picture(5)], tau=4.0, least_gap=least_gap)
    (streamed,) = client.identify_stream(iter([request]))
    return [client.identify(gallery, picture(5), tau=4.0, least_gap=least_gap).results[0], streamed.response.results[0]]


def test_it_is_the_gallerys_unless_the_request_has_one(client: Client) -> None:
    assert client.create_gallery("asks", encoder="pixels", least_gap=ENOUGH).least_gap == ENOUGH
    enroll_two(client, "asks")
    for doubtful in answers(client, "asks", None):
        assert (doubtful.subject_id, doubtful.unknown_reason) == ("", UNKNOWN_REASON_AMBIGUOUS)
        assert (doubtful.nearest_subject_id, doubtful.next_subject_id) == ("it", "other")
    for own in (0.0, 0.0001):
        for found in answers(client, "asks", own):
            assert (found.subject_id, found.unknown_reason) == ("it", 0)


def test_it_can_be_changed_later(client: Client) -> None:
    assert client.create_gallery("changes", encoder="pixels").least_gap == 0
    enroll_two(client, "changes")
    before = client.get_gallery("changes").revision
    assert [one.subject_id for one in answers(client, "changes", None)] == ["it", "it"]
    assert client.set_least_gap("changes", ENOUGH).least_gap == ENOUGH
    assert (client.get_gallery("changes").least_gap, client.get_gallery("changes").revision) == (ENOUGH, before + 1)
    assert [one.subject_id for one in answers(client, "changes", None)] == ["", ""]
    assert client.set_fusion("changes", "nearest").least_gap == ENOUGH
    client.set_least_gap("changes", 0.0)
    assert [one.subject_id for one in answers(client, "changes", None)] == ["it", "it"]


def test_what_is_no_gap_is_refused(client: Client) -> None:
    client.create_gallery("refuses", encoder="pixels")
    for bad in (-0.1, float("nan"), float("inf")):
        for act in (
            lambda: client.set_least_gap("refuses", bad),  # noqa: B023
            lambda: client.create_gallery("another", encoder="pixels", least_gap=bad),  # noqa: B023
        ):
            with pytest.raises(OneglanceError) as caught:
                act()  # type: ignore[no-untyped-call]
            assert caught.value.field_violations[0][0] == "least_gap"
    with pytest.raises(Exception, match="least_gap: is required"):
        client._galleries.SetLeastGap(SetLeastGapRequest(gallery_id="refuses"))
    with pytest.raises(OneglanceError) as caught:
        client.set_least_gap("nowhere", 0.1)
    assert caught.value.reason == "GALLERY_NOT_FOUND"
