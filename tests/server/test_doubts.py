"""Enrolling tells the nearest other subject and what is doubtful, or is refused for that, by policy or by request."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoding, enroll_request
from oneglance.client.errors import AlreadyExistsError, FailedPreconditionError, from_error
from oneglance.client.requests import FusionName
from oneglance.v1.common_pb2 import (
    DOUBT_KIND_LIKE_ANOTHER,
    DOUBT_KIND_UNLIKE_OWN,
    DOUBT_POLICY_FLAG,
    DOUBT_POLICY_OFF,
    DOUBT_POLICY_REFUSE,
    Doubt,
    Encoding,
    Neighbour,
)
from oneglance.v1.gallery_pb2 import CreateGalleryRequest, SetDoubtPolicyRequest
from oneglance_apps.cli import main
from oneglance_server.app import Server
from tests.pictures import picture

TAU = 0.5  # of the model: nothing else was measured of it
Make = Callable[[float], Encoding]


@pytest.fixture
def at(client: Client) -> Make:
    """Encodings on a line: their squared distances are those of the numbers."""
    digest = client.describe_model("pixels").model.digest
    return lambda x: encoding([x, *[1.0] * 63], digest)


def test_a_new_gallery_flags_and_says_which_policy_it_has(client: Client) -> None:
    assert client.create_gallery("default", encoder="pixels").doubt_policy == DOUBT_POLICY_FLAG
    assert client.create_gallery("other", encoder="pixels", doubt_policy="off").doubt_policy == DOUBT_POLICY_OFF
    assert client.set_doubt_policy("other", "refuse").doubt_policy == DOUBT_POLICY_REFUSE
    assert client.get_gallery("other").doubt_policy == DOUBT_POLICY_REFUSE
    assert {g.id: g.doubt_policy for g in client.list_galleries()}["other"] == DOUBT_POLICY_REFUSE


def test_a_policy_that_is_none_is_refused(client: Client, gallery: str) -> None:
    calls = client._galleries
    with pytest.raises(Exception, match="must be OFF, FLAG or REFUSE, got 7"):
        calls.CreateGallery(CreateGalleryRequest(gallery_id="x", doubt_policy=7))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="must be OFF, FLAG or REFUSE, got 0"):
        calls.SetDoubtPolicy(SetDoubtPolicyRequest(gallery_id=gallery))
    with pytest.raises(OneglanceError) as caught:
        client.set_doubt_policy("nowhere", "off")
    assert caught.value.reason == "GALLERY_NOT_FOUND"


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_the_same_picture_under_two_names_is_told(client: Client, gallery: str, fusion: FusionName) -> None:
    client.set_fusion(gallery, fusion)
    first = client.enroll(gallery, "a", picture(1), picture(2), picture(3), on_existing="add")
    assert not first.HasField("nearest_other")
    answer = client.enroll(gallery, "b", picture(9), picture(2))
    assert answer.nearest_other == Neighbour(subject_id="a", distance=0.0, field="examples[1]")
    like = [one for one in answer.doubts if one.kind == DOUBT_KIND_LIKE_ANOTHER and one.distance == 0]
    assert like == [Doubt(kind=DOUBT_KIND_LIKE_ANOTHER, field="examples[1]", subject_id="a", distance=0.0, limit=TAU)]


def test_a_refusal_names_subject_and_distance_and_stores_nothing(client: Client, gallery: str, at: Make) -> None:
    client.set_doubt_policy(gallery, "refuse")
    client.enroll(gallery, "a", at(1), labels={"name": "A"})
    before = client.get_gallery(gallery)
    with pytest.raises(AlreadyExistsError) as caught:
        client.enroll(gallery, "b", at(9), at(1.5), request_id="r")
    error = caught.value
    assert error.reason == "LIKE_ANOTHER"
    assert "0.2500 from subject 'a'" in str(error)
    assert {key: error.metadata[key] for key in ("subject_id", "other_subject_id", "distance", "distance_limit")} == {
        "subject_id": "b",
        "other_subject_id": "a",
        "distance": "0.25",
        "distance_limit": str(TAU),
    }
    assert [(one.kind, one.field, one.subject_id) for one in error.doubts] == [
        (DOUBT_KIND_LIKE_ANOTHER, "examples[1]", "a"),
        (DOUBT_KIND_UNLIKE_OWN, "examples[0]", "b"),
        (DOUBT_KIND_UNLIKE_OWN, "examples[1]", "b"),
    ]
    assert client.get_gallery(gallery) == before
    # Who looks at it, and knows better, says so; the refused request isn't remembered.
    told = client.enroll(gallery, "b", at(9), at(1.5), request_id="r", doubt_policy="flag")
    assert (told.replayed, len(told.doubts)) == (False, 3)


def test_two_people_under_one_name(client: Client, gallery: str, at: Make) -> None:
    client.enroll(gallery, "a", at(1))
    near, far = client.enroll(gallery, "a", at(1.5)), client.enroll(gallery, "a", at(9), at(9.5), at(30))
    assert list(near.doubts) == []
    assert [(one.kind, one.field, one.subject_id, one.distance) for one in far.doubts] == [
        (DOUBT_KIND_UNLIKE_OWN, "examples[2]", "a", 20.5**2)
    ]
    with pytest.raises(FailedPreconditionError) as caught:
        client.enroll(gallery, "a", at(60), doubt_policy="refuse")
    assert (caught.value.reason, caught.value.metadata["distance"]) == ("UNLIKE_OWN", "900.0")
    assert "two people under one name" in str(caught.value)
    assert list(client.enroll(gallery, "a", at(60), on_existing="replace", doubt_policy="refuse").doubts) == []


@pytest.mark.parametrize("fusion", ["nearest", "mean", "margin"])
def test_off_is_not_looked_at_unless_the_request_asks(
    client: Client, gallery: str, at: Make, fusion: FusionName
) -> None:
    client.set_fusion(gallery, fusion)
    client.set_doubt_policy(gallery, "off")
    client.enroll(gallery, "a", at(1), at(9))
    off = client.enroll(gallery, "b", at(9))
    assert (off.HasField("nearest_other"), list(off.doubts)) == (False, [])
    assert client.enroll(gallery, "c", at(5), doubt_policy="flag").nearest_other.distance == 16
    with pytest.raises(AlreadyExistsError):
        client.enroll(gallery, "d", at(9), doubt_policy="refuse")


def test_a_retry_gets_the_first_answer(client: Client, gallery: str, at: Make) -> None:
    client.enroll(gallery, "a", at(1))
    first = client.enroll(gallery, "b", at(1), request_id="r")
    client.enroll(gallery, "c", at(1))
    again = client.enroll(gallery, "b", at(1), request_id="r")
    assert again.replayed
    assert first.doubts
    assert (again.nearest_other, list(again.doubts)) == (first.nearest_other, list(first.doubts))


def test_in_a_stream_each_item_is_held_against_those_before_it(client: Client, gallery: str, at: Make) -> None:
    client.set_doubt_policy(gallery, "refuse")
    items = [enroll_request(gallery, f"s{i}", [at(3 * (i % 20))]) for i in range(60)]
    answers = list(client.bulk_enroll(iter(items)))
    enrolled = [answer.enrolled.subject_id for answer in answers if answer.HasField("enrolled")]
    refused = [from_error(answer.error) for answer in answers if answer.HasField("error")]
    assert (len(enrolled), len(refused)) == (20, 40)
    assert {error.reason for error in refused} == {"LIKE_ANOTHER"}
    assert {int(name[1:]) % 20 for name in enrolled} == set(range(20))
    assert {error.metadata["other_subject_id"] for error in refused} <= set(enrolled)


def test_of_many_callers_who_enroll_one_person_one_wins(server: Server, gallery: str, at: Make) -> None:
    person = at(1)

    def enroll(i: int) -> str:
        with Client(server.address) as client:
            try:
                return client.enroll(gallery, f"s{i}", person, doubt_policy="refuse").subject_id
            except AlreadyExistsError as error:
                return error.reason

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(enroll, range(8)))
    assert outcomes.count("LIKE_ANOTHER") == 7


def test_the_limits_are_the_taus(client: Client, gallery: str, at: Make) -> None:
    client.set_fusion(gallery, "mean")
    client.set_threshold(gallery, 4.5)
    client.enroll(gallery, "a", at(1))
    assert [one.limit for one in client.enroll(gallery, "b", at(3)).doubts] == [4.5]
    client.set_fusion(gallery, "margin")
    client.set_threshold(gallery, -0.5)  # is for scores: no limit of distances
    assert [one.limit for one in client.enroll(gallery, "c", at(1)).doubts] == [TAU]


def test_the_cli_tells_and_refuses(
    server: Server, gallery: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--server", server.address]) == status
        return "".join(capsys.readouterr())

    file = tmp_path / "it.npy"
    np.save(file, picture(4))
    run("enroll", gallery, "a", str(file))
    text = run("enroll", gallery, "b", str(file))
    assert "nearest other subject: a, 0.0000" in text
    assert f"doubtful: {file} is 0.0000 from a (within 0.5000)" in text
    assert "LIKE_ANOTHER" in run("enroll", gallery, "c", str(file), "--on-doubt", "refuse", status=1)
    answer = json.loads(
        run("enroll", gallery, "c", str(file), "--json", "--on-doubt", "refuse", status=1).splitlines()[0]
    )
    assert answer["doubts"][0]["subject_id"] in ("a", "b")
    assert "doubt policy refuse" in run("set-doubt-policy", gallery, "refuse")
    assert "LIKE_ANOTHER" in run("enroll", gallery, "c", str(file), status=1)
    run("enroll", gallery, "c", str(file), "--on-doubt", "off")
