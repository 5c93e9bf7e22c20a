"""Photos of several people: each subject in one face at most, and the conflict told on the face that lost."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, identify_request
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    DECISION_UNKNOWN,
    UNKNOWN_REASON_TAKEN,
    UNKNOWN_REASON_UNSPECIFIED,
)
from oneglance_apps.cli import main
from oneglance_index import Candidate
from oneglance_server.app import Server
from oneglance_server.service.content import Identification
from oneglance_server.service.group_photos import each_in_one_face
from tests import face_models
from tests.face_models import encoded
from tests.running import measured, server_thread

ADA, BOB = 1, 2


def face(photo: int, nearest: str, score: float, *, under: bool = True) -> Identification:
    found = (Candidate(nearest, "", score, score), Candidate("next", "", 9.0, 9.0))
    return Identification(photo, None, nearest if under else None, found, (), False, found, False)


def best_assignment(faces: list[Identification]) -> tuple[int, float]:
    """Of all ways to name faces or not, nobody twice: the most faces named, and then the least sum of scores."""
    best = (0, 0.0)
    for named in itertools.product((False, True), repeat=len(faces)):
        given = [one for one, name in zip(faces, named, strict=True) if name and one.identified]
        if len({one.identified for one in given}) == len(given):
            total = sum(one.nearest[0].score for one in given)
            best = max(best, (len(given), -total))
    return best[0], -best[1]


def test_it_is_the_best_of_all_assignments() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        faces = [
            face(0, str(rng.integers(3)), float(rng.integers(1, 5)), under=bool(rng.integers(4)))
            for _ in range(rng.integers(1, 7))
        ]
        found = each_in_one_face(faces)
        given = [one for one in found if one.identified]
        assert (len(given), sum(one.nearest[0].score for one in given)) == best_assignment(faces)
        for before, after in zip(faces, found, strict=True):
            if after == before:
                continue
            assert (after.identified, before.taken_by) == (None, None)
            assert after.taken_by is not None
            assert found[after.taken_by].identified == before.identified
            winner = found[after.taken_by].nearest[0].score
            assert winner <= before.nearest[0].score
            if winner == before.nearest[0].score:
                assert after.taken_by < found.index(after)


def test_another_photo_may_show_the_same_subject() -> None:
    faces = [face(0, "a", 0.1), face(0, "a", 0.2), face(1, "a", 0.05), face(1, "b", 0.1)]
    found = each_in_one_face(faces)
    assert [one.identified for one in found] == ["a", None, "a", "b"]
    assert [one.taken_by for one in found] == [None, 0, None, None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("group")
    models = (face_models.face_models(folder / "models"),)
    with server_thread(data_dir=folder / "data", models=models) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def test_the_face_that_lost_says_who_has_the_name(
    server: Server, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_gallery("people", quality_policy="off")
    client.enroll("people", "ada", encoded(face_models.photo({(8, 8): ADA})))
    twice = encoded(face_models.photo({(8, 8): ADA, (64, 32): ADA}))
    both = client.identify("people", twice, tau=1.0).results
    assert [one.subject_id for one in both] == ["ada", "ada"]
    before = decisions(server)
    (streamed,) = client.identify_stream(iter([identify_request("people", [twice], tau=1.0, one_face_each=True)]))
    for answer in (client.identify("people", twice, twice, tau=1.0, one_face_each=True), streamed.response):
        for first in range(0, len(answer.results), 2):
            won, lost = sorted(answer.results[first : first + 2], key=lambda one: one.decision)
            assert (won.decision, won.unknown_reason) == (DECISION_IDENTIFIED, UNKNOWN_REASON_UNSPECIFIED)
            assert not won.HasField("taken")
            assert (lost.decision, lost.subject_id) == (DECISION_UNKNOWN, "")
            assert lost.unknown_reason == UNKNOWN_REASON_TAKEN
            assert lost.taken.subject_id == "ada"
            assert answer.results[lost.taken.result_index] == won
            assert won.probe_index == lost.probe_index
    assert [new - old for new, old in zip(decisions(server), before, strict=True)] == [3, 3]
    (tmp_path / "twice.png").write_bytes(twice)
    words = ["identify", "--server", server.address, "people", str(tmp_path / "twice.png"), "--tau", "1"]
    assert main([*words, "--one-face-each"]) == 0
    assert "unknown: another face is nearer to ada (result 1)" in capsys.readouterr().out


def decisions(server: Server) -> list[float]:
    return [
        measured(server, "oneglance_decisions_total", gallery="people", decision=one)
        for one in ("identified", "unknown")
    ]


def test_two_people_are_both_named(client: Client) -> None:
    client.create_gallery("two", quality_policy="off")
    for name, who in (("ada", ADA), ("bob", BOB)):
        client.enroll("two", name, encoded(face_models.photo({(8, 8): who})))
    photo = encoded(face_models.photo({(8, 8): ADA, (64, 32): BOB}))
    found = client.identify("two", photo, tau=1.0, one_face_each=True).results
    assert {one.subject_id for one in found} == {"ada", "bob"}
