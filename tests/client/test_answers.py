"""Answers as dataclasses: every message of every answer, how they print, and tables of them."""

import dataclasses
import sys
import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from oneglance import Client, answers, as_dataclass, to_dataframe
from oneglance.client import requests
from oneglance.client.answering import Answer
from oneglance.v1 import (
    access_pb2,
    common_pb2,
    detection_pb2,
    gallery_pb2,
    identification_pb2,
    mapping_pb2,
    model_pb2,
    moving_pb2,
    server_pb2,
    stylization_pb2,
    subject_pb2,
)
from oneglance.v1.common_pb2 import DOUBT_KIND_LIKE_ANOTHER, Candidate, Doubt, Encoding, NearerNegative
from oneglance.v1.identification_pb2 import (
    DECISION_UNKNOWN,
    EncodeResponse,
    IdentifyResponse,
    IdentifyResult,
    VerifyResponse,
)
from oneglance.v1.stylization_pb2 import StylizedPicture
from oneglance.v1.subject_pb2 import EncodingRecord, Subject
from tests.pictures import picture, png
from tests.running import server_thread

FILES = (
    access_pb2,
    detection_pb2,
    gallery_pb2,
    identification_pb2,
    model_pb2,
    mapping_pb2,
    moving_pb2,
    server_pb2,
    stylization_pb2,
    subject_pb2,
)
ANSWERED = sorted(
    {
        method.output_type.name
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
)
CLASSES = {name: kind for name, kind in vars(answers).items() if isinstance(kind, type) and issubclass(kind, Answer)}


def message_class(name: str) -> type[Message]:
    return next(
        GetMessageClass(file.DESCRIPTOR.message_types_by_name[name])
        for file in (*FILES, common_pb2)
        if name in file.DESCRIPTOR.message_types_by_name
    )


@pytest.mark.parametrize("name", ANSWERED)
def test_every_answer_has_a_dataclass(name: str) -> None:
    empty = as_dataclass(message_class(name)())
    assert type(empty) is CLASSES[name]
    assert dataclasses.is_dataclass(empty)
    for field in dataclasses.fields(empty):
        given_default, found = getattr(CLASSES[name](), field.name), getattr(empty, field.name)
        assert type(found) is type(given_default), field.name
        assert len(found) == 0 if isinstance(found, np.ndarray) else found == given_default, field.name


def test_values_are_what_python_has() -> None:
    when = Timestamp(seconds=1_800_000_000, nanos=500_000_000)
    subject = as_dataclass(
        Subject(id="ada", labels={"site": "b"}, create_time=when, encodings=[EncodingRecord(id="1")])
    )
    assert subject.create_time == datetime.fromtimestamp(1_800_000_000.5, UTC)
    assert subject.labels == {"site": "b"}
    assert subject.encodings == (answers.EncodingRecord(id="1"),)
    assert subject.update_time is None
    assert subject.retention is None
    found = as_dataclass(Candidate(subject_id="ada", distance=0.5))
    assert (found.score, found.negative, found.probability) == (None, None, None)
    assert as_dataclass(Candidate(score=0.0)).score == 0.0
    assert as_dataclass(Candidate(negative=NearerNegative(id="7"))).negative == answers.NearerNegative(id="7")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.distance = 1.0  # type: ignore[misc]


def test_choices_are_words_as_arguments_are() -> None:
    assert as_dataclass(Doubt(kind=DOUBT_KIND_LIKE_ANOTHER)).kind == "like-another"
    assert as_dataclass(Doubt()).kind == ""
    newer: str = as_dataclass(IdentifyResult(decision=99)).decision  # type: ignore[arg-type]
    assert newer == "99"
    alike: list[tuple[Any, Mapping[Any, int]]] = [
        (answers.Fusion, requests.FUSIONS),
        (answers.QualityPolicy, requests.QUALITY_POLICIES),
        (answers.DoubtPolicy, requests.DOUBT_POLICIES),
        (answers.DecidedBy, requests.DECIDED_BY),
    ]
    for words, table in alike:
        assert set(typing.get_args(words)) == set(table)
    for name, value in requests.FUSIONS.items():
        assert as_dataclass(gallery_pb2.Gallery(fusion=value)).fusion == name


def test_encodings_are_arrays_that_nobody_changes() -> None:
    encoded = as_dataclass(EncodeResponse(encodings=[Encoding(values=[0.5, -0.25])]))
    values = encoded.encodings[0].values
    assert values.dtype == np.float32
    assert values.tolist() == [0.5, -0.25]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1
    assert encoded == encoded  # no array decides whether two are equal
    assert as_dataclass(Encoding()) != as_dataclass(Encoding())


def test_what_is_no_answer_is_refused() -> None:
    for wrong in (Timestamp(), identification_pb2.IdentifyRequest(), "ada"):
        with pytest.raises(TypeError, match="an answer of the server"):
            as_dataclass(wrong)  # type: ignore[arg-type]


def test_zeros_are_printed_and_what_is_empty_is_not() -> None:
    assert repr(as_dataclass(Candidate(subject_id="ada"))) == "Candidate(subject_id='ada', distance=0, mapped=False)"
    assert repr(as_dataclass(Candidate(distance=1 / 3, score=0.0))) == (
        "Candidate(distance=0.333333, score=0, mapped=False)"
    )
    assert repr(as_dataclass(EncodingRecord(id="1", create_time=Timestamp(seconds=1_800_000_000)))) == (
        "EncodingRecord(id='1', create_time=<2027-01-15 08:00:00 UTC>)"
    )
    assert repr(as_dataclass(Encoding(values=[0.1] * 512))) == (
        "Encoding(values=<512 numbers: 0.1, 0.1, 0.1, 0.1, ...>)"
    )
    assert "image=<70,000 bytes>" in repr(as_dataclass(StylizedPicture(image=bytes(70_000))))
    assert repr(as_dataclass(Subject(id="a", labels={"k": "v"}))) == (
        "Subject(id='a', labels={'k': 'v'}, mapped=False)"
    )


def test_what_is_too_long_for_a_line_is_broken() -> None:
    many = IdentifyResult(candidates=[Candidate(subject_id=f"subject-{i}", distance=i) for i in range(3)])
    assert repr(as_dataclass(many)) == (
        "IdentifyResult(\n"
        "    candidates=(\n"
        "        Candidate(subject_id='subject-0', distance=0, mapped=False),\n"
        "        Candidate(subject_id='subject-1', distance=1, mapped=False),\n"
        "        Candidate(subject_id='subject-2', distance=2, mapped=False),\n"
        "    ),\n"
        "    matches_truncated=False,\n"
        "    probe_index=0,\n"
        ")"
    )


@given(st.lists(st.tuples(st.text(max_size=60), st.floats(0, 4)), max_size=6), st.text(max_size=40))
def test_a_broken_print_says_the_same_in_lines_that_fit(candidates: list[tuple[str, float]], subject: str) -> None:
    listed = [Candidate(subject_id=name, distance=distance) for name, distance in candidates]
    made = as_dataclass(IdentifyResult(subject_id=subject, candidates=listed))
    read = eval(repr(made), dict(CLASSES))
    assert read.subject_id == subject
    assert [one.subject_id for one in read.candidates] == [name for name, _ in candidates]
    assert [one.distance for one in read.candidates] == pytest.approx([d for _, d in candidates], rel=1e-5)
    for line in repr(made).splitlines():
        assert len(line) <= 101 or "subject_id" in line


@pytest.fixture(scope="module")
def asked(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    data_dir = tmp_path_factory.mktemp("data")
    with server_thread(data_dir=data_dir, models=(models[0],)) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "one", png(picture(1)), labels={"site": "berlin"})
        client.enroll("g", "two", png(picture(2)))
        yield client


def test_what_methods_return(asked: Client) -> None:
    found = as_dataclass(asked.identify("g", png(picture(1))))
    assert (found.results[0].decision, found.results[0].subject_id) == ("identified", "one")
    assert found.threshold is not None
    assert found.threshold.source == "model"
    assert asked.set_fusion("g", as_dataclass(asked.get_gallery("g")).fusion).id == "g"
    assert [as_dataclass(one).id for one in asked.list_subjects("g")] == ["one", "two"]


def test_answers_become_tables(asked: Client) -> None:
    pytest.importorskip("pandas")
    found = asked.identify("g", png(picture(1)), png(picture(2)))
    for table in (to_dataframe(found), to_dataframe(as_dataclass(found)), to_dataframe(found.results)):
        assert table["subject_id"].tolist() == ["one", "two"]
        assert set(table["decision"]) == {"identified"}
        assert table["gap"].tolist() == [one.gap for one in found.results]
    subjects = to_dataframe(asked.list_subjects("g"))
    assert subjects["labels.site"].tolist()[0] == "berlin"
    assert subjects["create_time"].dt.tz is not None
    encoded = to_dataframe(asked.encode(png(picture(1)), png(picture(2))))
    assert [values.shape for values in encoded["values"]] == [(64,), (64,)]
    verified = to_dataframe(asked.verify("g", "one", png(picture(1))))
    assert verified["same"].tolist() == [True]
    assert verified["threshold.source"].tolist() == ["model"]
    assert to_dataframe(asked.list_galleries())["id"].tolist() == ["g"]
    assert to_dataframe(IdentifyResponse()).empty
    assert len(to_dataframe(VerifyResponse())) == 1, "its breaches aren't what it is about"


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        to_dataframe(IdentifyResponse(results=[IdentifyResult(decision=DECISION_UNKNOWN)]))
