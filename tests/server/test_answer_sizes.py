"""No answer is too large to be sent: pages end before 4 MiB, which a client takes that nobody told to take more."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from oneglance import Client, InvalidArgumentError, encoding
from oneglance.v1.gallery_pb2 import ListGalleriesRequest
from oneglance.v1.gallery_pb2_grpc import GalleryServiceStub
from oneglance.v1.identification_pb2 import ListLookAlikesRequest
from oneglance.v1.identification_pb2_grpc import IdentificationServiceStub
from oneglance.v1.subject_pb2 import (
    CountSubjectsRequest,
    DeleteSubjectsRequest,
    ListExpiredRequest,
    ListSubjectsRequest,
)
from oneglance.v1.subject_pb2_grpc import SubjectServiceStub
from oneglance_core.folder import read_any_model_folder
from oneglance_index import LocalGalleries, Retention
from oneglance_server.app import Server
from oneglance_server.service.content import MAX_LABEL_CHARACTERS, MAX_LABELS
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

SUBJECTS, LABELLED, GALLERIES = 1100, 30, 1001
LONG = "\U00020000"  # a letter of four bytes
FAR = 4e9  # seconds: a time that is over in a hundred years


def name(number: int) -> str:
    """As long as an id may be."""
    return f"{number:04}{LONG * 124}"


def text(number: int) -> str:
    return f"{number:04}{LONG * (MAX_LABEL_CHARACTERS - 4)}"


GALLERY = name(0)


@pytest.fixture(scope="module")
def filled(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("large")
    digest = read_any_model_folder(models[0]).digest
    vectors = np.eye(64, dtype=np.float32)[0] + np.random.default_rng(1).normal(0, 0.01, (SUBJECTS, 64))
    with LocalGalleries.open(data) as store:
        made: list[Future[Any]] = [
            store.create_gallery(name(number), encoder_digest=digest, dimension=64, description=text(number))
            for number in range(GALLERIES)
        ]
        made += [
            store.enroll(
                GALLERY,
                name(number),
                vectors[number : number + 1].astype(np.float32),
                labels={name(key): text(number) for key in range(MAX_LABELS if number < LABELLED else 1)},
                retention=Retention(FAR + number // 2, text(0), text(1)),
            )
            for number in range(SUBJECTS)
        ]
        for one in made:
            one.result()
    with server_thread(data_dir=data, models=models) as server:
        yield server


@pytest.fixture
def channel(filled: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(filled.address) as connected:  # takes 4 MiB
        yield connected


def pages(method: Callable[..., Any], request: Any, most: int = 10_000) -> list[Any]:
    found = []
    for _ in range(most):
        found.append(method(request, timeout=PATIENCE_SECONDS))
        request.page_token = found[-1].next_page_token
        if not request.page_token:
            break
    return found


def test_subjects_with_all_labels(channel: grpc.Channel) -> None:
    found = pages(SubjectServiceStub(channel).ListSubjects, ListSubjectsRequest(gallery_id=GALLERY, page_size=1000))
    assert [one.id for page in found for one in page.subjects] == [name(number) for number in range(SUBJECTS)]
    assert len(found) > 3


def test_who_is_over(channel: grpc.Channel) -> None:
    request = ListExpiredRequest()
    request.at.seconds = int(FAR) + SUBJECTS
    found = pages(SubjectServiceStub(channel).ListExpired, request)
    assert [one.subject_id for page in found for one in page.subjects] == [name(number) for number in range(SUBJECTS)]
    assert len(found) > 2
    request.page_token, request.page_size = "", 7
    few = pages(SubjectServiceStub(channel).ListExpired, request, 3)
    assert [len(page.subjects) for page in few] == [7, 7, 7]
    with pytest.raises(grpc.RpcError, match="page_token"):
        SubjectServiceStub(channel).ListExpired(ListExpiredRequest(page_token="Zm9v"), timeout=PATIENCE_SECONDS)


def test_galleries(channel: grpc.Channel) -> None:
    found = pages(GalleryServiceStub(channel).ListGalleries, ListGalleriesRequest(page_size=1000))
    assert [one.id for page in found for one in page.galleries] == [name(number) for number in range(GALLERIES)]


def test_values_of_a_label(channel: grpc.Channel) -> None:
    answer = SubjectServiceStub(channel).CountSubjects(
        CountSubjectsRequest(gallery_id=GALLERY, label=name(0)), timeout=PATIENCE_SECONDS
    )
    assert (answer.subjects, len(answer.values), answer.others) == (SUBJECTS, 1000, SUBJECTS - 1000)


def test_look_alikes(channel: grpc.Channel) -> None:
    request = ListLookAlikesRequest(gallery_id=GALLERY, page_size=1000, within=3.9)
    found = pages(IdentificationServiceStub(channel).ListLookAlikes, request, 2)
    firsts = [list(dict.fromkeys(pair.subject_id for pair in page.pairs)) for page in found]
    assert [*firsts[0], *firsts[1]] == [name(number) for number in range(len(firsts[0]) + len(firsts[1]))]
    assert all(page.ByteSize() > 2 << 20 for page in found)


def test_labels_of_candidates_fit_or_are_refused(filled: Server) -> None:
    with Client(filled.address, timeout_seconds=PATIENCE_SECONDS) as client:
        (model,) = (one for one in client.list_models() if one.name == "pixels")
        probe = encoding(np.eye(64)[0], model.digest)
        found = client.identify(GALLERY, *[probe] * 10, with_labels=True, max_candidates=100)
        assert all(one.labels for one in found.results[0].candidates)
        with pytest.raises(InvalidArgumentError) as refused:
            client.identify(GALLERY, *[probe] * 100, with_labels=True, max_candidates=100)
        assert refused.value.reason == "ANSWER_TOO_LARGE"
        assert [path for path, _ in refused.value.field_violations] == ["with_labels"]


def test_what_cant_be_sent_is_said(models: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models, max_message_bytes=1 << 20) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        (model,) = (one for one in client.list_models() if one.name == "pixels")
        probe = encoding(np.eye(64)[0], model.digest)
        for number in range(30):
            client.enroll("g", name(number), probe, doubt_policy="off")
        with pytest.raises(InvalidArgumentError, match="ask for less") as refused:
            client.identify("g", *[probe] * 100, max_candidates=30)
        assert refused.value.reason == "ANSWER_TOO_LARGE"


def test_of_many_who_are_deleted_at_once(channel: grpc.Channel) -> None:
    request = DeleteSubjectsRequest(gallery_id=GALLERY)
    request.filter.id_prefix = "0"
    answer = SubjectServiceStub(channel).DeleteSubjects(request, timeout=10 * PATIENCE_SECONDS)
    assert len(answer.deleted) == 1000
    assert all(one.receipt for one in answer.deleted)
