"""Many subjects in one message of BulkEnroll, whose encodings there are already."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from oneglance import (
    AsyncClient,
    Client,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OneglanceError,
    PermissionDeniedError,
    encoded_subject,
    encoding,
    enroll_request,
    keyed,
)
from oneglance.client.errors import from_error
from oneglance.v1.common_pb2 import DOUBT_POLICY_FLAG
from oneglance.v1.subject_pb2 import (
    ON_EXISTING_REPLACE,
    BulkEnrollRequest,
    EncodedOutcome,
    EncodedSubject,
    EncodedSubjects,
)
from oneglance_server.app import Server
from tests.models import pixels_model
from tests.pictures import picture
from tests.running import ServerProcess, server_thread
from tests.server.access.callers import ADMIN, grant, key_of
from tests.server.http_channel import http_client
from tests.waiting import PATIENCE_SECONDS

D = 64


def points(count: int, seed: int = 0) -> np.ndarray:
    made: np.ndarray = np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("many")
    with server_thread(
        data_dir=folder / "data", models=[pixels_model(folder / "m", unit_norm=True)], http="127.0.0.1:0"
    ) as running:
        yield running


@pytest.fixture
def digest(client: Client) -> str:
    return client.list_models()[0].digest


@pytest.fixture
def gallery(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name[:100]
    client.create_gallery(name, doubt_policy="off")
    yield name
    client.delete_gallery(name)


def told(outcomes: list[EncodedOutcome]) -> list[str]:
    return [one.error.reason or "enrolled" for one in outcomes]


def test_all_are_found_as_they_were_sent(client: Client, gallery: str, digest: str) -> None:
    vectors = points(1000)
    subjects = (
        encoded_subject(f"s{i}", vectors[2 * i : 2 * i + 2], {"place": str(i % 3)} if i % 2 else None)
        for i in range(500)
    )
    outcomes = list(client.bulk_enroll_encodings(gallery, subjects, encoder_digest=digest, at_once=64))
    assert told(outcomes) == ["enrolled"] * 500
    assert all(one.enrolled.created and len(one.enrolled.encoding_ids) == 2 for one in outcomes)
    ids = [number for one in outcomes for number in one.enrolled.encoding_ids]
    assert sorted(map(int, ids)) == list(map(int, ids))
    kept = {one.id: one for one in client.list_subjects(gallery)}
    assert len(kept) == 500
    assert dict(kept["s7"].labels) == {"place": "1"}
    assert [one.id for one in kept["s7"].encodings] == list(outcomes[7].enrolled.encoding_ids)
    assert client.get_gallery(gallery).encoding_count == 1000


def test_each_that_is_wrong_is_told_and_the_others_are_enrolled(client: Client, gallery: str, digest: str) -> None:
    good = points(12)
    given = [
        encoded_subject("a", good[0]),
        encoded_subject("", good[1]),
        encoded_subject("short", good[2][:-1]),
        encoded_subject("none", []),
        encoded_subject("nan", np.where(np.arange(D) == 3, np.nan, good[3])),
        encoded_subject("long", np.stack([good[4], 2 * good[5]])),
        encoded_subject("zero", np.zeros(D)),
        encoded_subject("many", np.repeat(good[:1], 65, axis=0)),
        encoded_subject("labelled", good[6], {f"k{i}": "" for i in range(65)}),
        encoded_subject("request", good[7], request_id=" r"),
        encoded_subject("b", good[8]),
    ]
    for one in given[1:-1]:
        one.subject_id = one.subject_id or "a\nb"
    outcomes = list(client.bulk_enroll_encodings(gallery, given, encoder_digest=digest, on_existing="fail"))
    wrong = "ENCODING_INVALID"
    assert told(outcomes) == [
        *("enrolled", "ID_INVALID", wrong, wrong, wrong, wrong, wrong, wrong, "TOO_MANY", "ID_INVALID", "enrolled"),
    ]
    fields = [one.error.field_violations[0].field for one in outcomes if one.HasField("error")]
    names = ["subject_id", *["values"] * 6, "labels", "request_id"]
    assert fields == [f"encoded.subjects[{i}].{name}" for i, name in enumerate(names, 1)]
    assert "has length 2" in outcomes[5].error.message
    again = list(client.bulk_enroll_encodings(gallery, given[-1:], encoder_digest=digest, on_existing="fail"))
    assert told(again) == ["SUBJECT_EXISTS"]
    assert [one.id for one in client.list_subjects(gallery)] == ["a", "b"]


def test_what_comes_again_gets_the_first_answer(client: Client, gallery: str, digest: str) -> None:
    good = points(3)
    given = [encoded_subject(f"s{i}", good[i], request_id=f"r{i}") for i in range(2)]
    first = list(client.bulk_enroll_encodings(gallery, given, encoder_digest=digest))
    other = encoded_subject("s1", good[2], request_id="r1")
    again = list(client.bulk_enroll_encodings(gallery, [*given, other], encoder_digest=digest))
    assert told(again) == ["enrolled", "enrolled", "REQUEST_CONFLICT"]
    assert [one.enrolled.replayed for one in again[:2]] == [True, True]
    assert [one.enrolled.encoding_ids for one in again[:2]] == [one.enrolled.encoding_ids for one in first]
    assert client.get_gallery(gallery).encoding_count == 2


@pytest.mark.parametrize("way", ["encoded", "item"])
def test_a_retry_may_spell_its_names_otherwise(client: Client, gallery: str, digest: str, way: str) -> None:
    vector = points(1)[0]

    def enroll(form: Any) -> tuple[bool, str]:
        name, labels = unicodedata.normalize(form, "José"), {unicodedata.normalize(form, "Größe"): "é"}
        if way == "encoded":
            new = [encoded_subject(name, vector, labels, request_id=name)]
            (outcome,) = client.bulk_enroll_encodings(gallery, new, encoder_digest=digest)
            assert outcome.HasField("enrolled"), outcome
            return outcome.enrolled.replayed, outcome.enrolled.encoding_ids[0]
        example = keyed(encoding(vector, digest), unicodedata.normalize(form, "Fräulein"))
        answer = client.enroll(gallery, name, example, labels=labels, request_id=name)
        return answer.replayed, answer.encoding_ids[0]

    first = enroll("NFC")
    assert enroll("NFD") == (True, first[1])


def test_what_concerns_all_is_told_once(client: Client, gallery: str, digest: str) -> None:
    good = encoded_subject("s", points(1))
    stub = client._subjects

    def refused(encoded: EncodedSubjects) -> Exception:
        """Of the first message; the second is carried out."""
        fine = EncodedSubjects(gallery_id=gallery, encoder_digest=digest, subjects=[good])
        answers = stub.BulkEnroll(iter([BulkEnrollRequest(encoded=encoded), BulkEnrollRequest(encoded=fine)]))
        first, second = answers
        assert second.index == 1
        assert told(list(second.encoded.outcomes)) == ["enrolled"]
        return from_error(first.error)

    error = refused(EncodedSubjects(gallery_id="nowhere", encoder_digest=digest, subjects=[good]))
    assert isinstance(error, NotFoundError)
    error = refused(EncodedSubjects(gallery_id=gallery, encoder_digest="f" * 64, subjects=[good]))
    assert isinstance(error, FailedPreconditionError)
    assert error.reason == "ENCODER_MISMATCH"
    flag, nine = DOUBT_POLICY_FLAG, 9
    for change, field in (
        ({"encoder_digest": ""}, "encoded.encoder_digest"),
        ({"subjects": []}, "encoded.subjects"),
        ({"subjects": [good] * 1025}, "encoded.subjects"),
        ({"doubt_policy": flag}, "encoded.doubt_policy"),
        ({"on_existing": nine}, "encoded.on_existing"),
    ):
        given: dict[str, Any] = {"gallery_id": gallery, "encoder_digest": digest, "subjects": [good], **change}
        encoded = EncodedSubjects(**given)
        error = refused(encoded)
        assert isinstance(error, InvalidArgumentError)
        assert error.field_violations[0][0] == field


def test_messages_of_both_kinds_in_their_order(client: Client, gallery: str, digest: str) -> None:
    vectors = points(40)

    def messages() -> Iterator[BulkEnrollRequest]:
        for i in range(0, 40, 2):
            encoded = EncodedSubjects(gallery_id=gallery, encoder_digest=digest, on_existing=ON_EXISTING_REPLACE)
            encoded.subjects.append(encoded_subject("last", vectors[i], {"i": str(i)}))
            yield BulkEnrollRequest(encoded=encoded)
            yield BulkEnrollRequest(item=enroll_request(gallery, f"picture {i}", picture(i)))

    answers = list(client._subjects.BulkEnroll(messages()))
    assert [one.index for one in answers] == list(range(40))
    assert [one.WhichOneof("outcome") for one in answers] == ["encoded", "enrolled"] * 20
    assert dict(client.get_subject(gallery, "last").labels) == {"i": "38"}


def test_asynchronously_and_over_http(server: Server, client: Client, gallery: str, digest: str) -> None:
    vectors = points(6)

    async def enroll() -> list[EncodedOutcome]:
        async def subjects() -> AsyncIterator[EncodedSubject]:
            for i in range(3):
                yield encoded_subject(f"async {i}", vectors[i])

        async with AsyncClient(server.address) as connected:
            sent = connected.bulk_enroll_encodings(gallery, subjects(), encoder_digest=digest)
            return [one async for one in sent]

    assert told(asyncio.run(enroll())) == ["enrolled"] * 3
    given = [encoded_subject(f"http {i}", vectors[3 + i]) for i in range(3)]
    over_http = http_client(server).bulk_enroll_encodings(gallery, given, encoder_digest=digest)
    assert told(list(over_http)) == ["enrolled"] * 3


def test_rights_and_quotas(models: tuple[Path, Path], tmp_path: Path) -> None:
    data, policy = tmp_path / "data", tmp_path / "policy.toml"
    rules = ADMIN + grant(["key:one"], ["g"], ["enroll"]) + grant(["key:none"], ["g"], ["identify"])
    policy.write_text(f'{rules}\n[[quota]]\nto = ["key:one"]\nencodings = "5/day"\n')
    keys = {name: key_of(data, name) for name in ("admin", "one", "none")}
    good = points(8)
    with server_thread(data_dir=data, models=models[:1], policy=str(policy)) as server:

        def enroll(who: str, count: int = 1, **how: str) -> str:
            with Client(server.address, token=keys[who], timeout_seconds=PATIENCE_SECONDS) as client:
                given = [encoded_subject(f"s{i}", good[i]) for i in range(count)]
                try:
                    (first, *_) = client.bulk_enroll_encodings("g", given, encoder_digest=digest, **how)  # type: ignore[arg-type]
                except PermissionDeniedError as error:
                    return error.reason
                except grpc.RpcError as error:
                    return str(error)
                except Exception as error:
                    return getattr(error, "reason", str(error))
                return told([first])[0]

        with Client(server.address, token=keys["admin"]) as admin:
            digest = admin.list_models()[0].digest
            admin.create_gallery("g", doubt_policy="off")
            assert enroll("none") == "PERMISSION_DENIED"
            assert enroll("one") == "enrolled"
            assert enroll("one", on_existing="replace") == "PERMISSION_DENIED"  # it erases
            assert enroll("one", 5) == "QUOTA_EXCEEDED"
            assert enroll("one", 4) == "enrolled"
            admin.set_doubt_policy("g", "flag")
            assert enroll("admin") == "DOUBT_POLICY_INVALID"
            assert enroll("one", doubt_policy="off") == "PERMISSION_DENIED"
            assert enroll("admin", doubt_policy="off") == "enrolled"


def test_nothing_acknowledged_is_lost_by_kill_9(models: tuple[Path, Path], tmp_path: Path) -> None:
    """Killed again and again while it enrolls; the same is sent again each time, and nobody is there twice."""
    vectors = points(6000)
    answered: set[str] = set()
    digest = ""

    def new() -> Iterator[EncodedSubject]:
        return (encoded_subject(f"s{i}", row) for i, row in enumerate(vectors))

    for kill_after in (1, 700, 2500, None):
        with ServerProcess(tmp_path, models=models[0]) as server, Client(server.address) as client:
            if not digest:
                client.create_gallery("g", doubt_policy="off", fusion="nearest")
                digest = client.list_models()[0].digest
            there = {one.id for one in client.list_subjects("g")}
            assert answered <= there
            outcomes = client.bulk_enroll_encodings("g", new(), encoder_digest=digest, on_existing="fail", at_once=128)
            fresh = 0
            try:
                for i, outcome in enumerate(outcomes):
                    assert outcome.HasField("enrolled") == (f"s{i}" not in there), outcome
                    answered.add(f"s{i}")
                    fresh += outcome.HasField("enrolled")
                    if kill_after is not None and fresh == kill_after:
                        server.kill()
                        kill_after = -1
            except OneglanceError:
                assert kill_after == -1
            if kill_after is None:
                assert len(answered) == client.get_gallery("g").encoding_count == len(vectors)
                probes = [encoding(vectors[i], digest) for i in range(0, len(vectors), 100)]
                found = client.identify("g", *probes, tau=0.1)
                assert [one.subject_id for one in found.results] == [f"s{i}" for i in range(0, len(vectors), 100)]
