"""Nothing heavy runs on the event loop: while it goes on for one caller, others are answered."""

import asyncio
import functools
import hashlib
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oneglance import Client, OneglanceError, encoding, enroll_request
from oneglance.v1.common_pb2 import Encoding, Example, Tensor
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_server.app import Server
from oneglance_server.servicers import subject
from tests.waiting import PATIENCE_SECONDS


def on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_while_a_large_enrollment_is_hashed_others_are_answered(
    server: Server, client: Client, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered = threading.Event(), threading.Event()
    sha256 = hashlib.sha256

    class Held:
        def __init__(self, data: bytes) -> None:
            self._digest = sha256(data)

        def update(self, data: bytes) -> None:
            begun.set()
            assert not on_a_loop()
            assert answered.wait(PATIENCE_SECONDS)
            self._digest.update(data)

        def digest(self) -> bytes:
            return self._digest.digest()

        def hexdigest(self) -> str:
            return self._digest.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", Held)
    large = bytes(15 << 20)  # no picture: it is refused once it was hashed
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as other, ThreadPoolExecutor(1) as pool:
        enrolling = pool.submit(other.enroll, gallery, "it", *[large] * 4, request_id="once")
        assert begun.wait(PATIENCE_SECONDS)
        assert client.get_gallery(gallery).subject_count == 0
        assert not enrolling.done()
        answered.set()
        with pytest.raises(OneglanceError) as caught:
            enrolling.result(PATIENCE_SECONDS)
    assert caught.value.reason == "IMAGE_UNDECODABLE"


@pytest.mark.parametrize(
    "heavy",
    [
        "oneglance_server.servicers.requests.content_from",
        "oneglance_server.service.encoding.make_plan",
        "oneglance_server.servicers.identification._to_result",
        "oneglance_server.service.identification._without_negatives",
        "oneglance_server.servicers.subject._to_subject",
    ],
)
def test_large_requests_and_answers_are_made_off_the_loop(
    client: Client, gallery: str, monkeypatch: pytest.MonkeyPatch, heavy: str
) -> None:
    digest = client.get_gallery(gallery).encoder_digest
    probes = [encoding(row, digest) for row in np.random.default_rng(0).random((1000, 64), dtype=np.float32)]
    items = [enroll_request(gallery, f"s{i}", [probes[i]] * 11) for i in range(200)]
    assert all(answer.HasField("enrolled") for answer in client.bulk_enroll(items))
    module, _, name = heavy.rpartition(".")
    where: list[bool] = []
    run: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)

    def noted(*given: Any, **options: Any) -> Any:
        where.append(on_a_loop())
        return run(*given, **options)

    monkeypatch.setattr(heavy, noted)
    assert len(client.identify(gallery, *probes, max_candidates=5).results) == 1000
    assert len(list(client.list_subjects(gallery))) == 200
    assert where
    assert not any(where[:1000])
    where.clear()
    client.identify(gallery, probes[0])  # small ones stay: a thread would only delay them
    assert all(where)


@given(
    gallery=st.text(max_size=5),
    subject_id=st.text(max_size=5),
    labels=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=4),
    on_existing=st.integers(0, 3),
    request_id=st.text(max_size=5),
    examples=st.lists(
        st.one_of(
            st.binary(max_size=300).map(lambda data: Example(image=data)),
            st.lists(st.floats(width=32, allow_nan=False), max_size=5).map(
                lambda values: Example(encoding=Encoding(values=values, encoder_digest="d"))
            ),
            st.binary(max_size=20).map(lambda data: Example(tensor=Tensor(data=data, shape=[1, 2]))),
            st.just(Example()),
        ),
        max_size=4,
    ),
    unknown=st.sampled_from([b"", b"\xa2\x06\x03abc"]),  # a field of a newer version
)
@example(
    gallery="",
    subject_id="\uf900",
    labels={"\uf900": "e\u0301"},
    on_existing=0,
    request_id="",
    examples=[],
    unknown=b"",
)
def test_the_digest_is_that_of_the_whole_message_without_its_request_id_however_names_are_spelled(
    gallery: str,
    subject_id: str,
    labels: dict[str, str],
    on_existing: Any,
    request_id: str,
    examples: list[Example],
    unknown: bytes,
) -> None:
    def request(form: Literal["NFC", "NFD"]) -> EnrollRequest:
        spelled = functools.partial(unicodedata.normalize, form)
        made = EnrollRequest(
            gallery_id=spelled(gallery),
            subject_id=spelled(subject_id),
            labels={spelled(key): spelled(value) for key, value in labels.items()},
            on_existing=on_existing,
            request_id=request_id,
            examples=examples,
        )
        made.MergeFromString(unknown)
        return made

    whole = request("NFC")
    whole.ClearField("request_id")
    expected = hashlib.sha256(whole.SerializeToString(deterministic=True)).digest()
    assert subject.content_digest(request("NFC")) == expected
    assert subject.content_digest(request("NFD")) == expected
