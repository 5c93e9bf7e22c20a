""" "Not this person": negatives through the wire, in every decision, and after a restart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoding, mate, stranger
from oneglance.client.errors import FailedPreconditionError, NotFoundError
from oneglance.client.requests import FusionName
from oneglance.v1.common_pb2 import Encoding, NearerNegative
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    DECISION_UNKNOWN,
    UNKNOWN_REASON_AMBIGUOUS,
    UNKNOWN_REASON_NEGATIVE,
    UNKNOWN_REASON_NOBODY_NEAR,
    UNKNOWN_REASON_UNSPECIFIED,
    IdentifyResult,
)
from oneglance_apps.cli import main
from oneglance_server.app import Server
from tests.pictures import picture
from tests.running import server_thread

RULES: tuple[FusionName, ...] = ("nearest", "mean", "margin")
Make = Callable[[float], Encoding]


@pytest.fixture
def at(client: Client) -> Make:
    """Encodings on a line: their squared distances are those of the numbers."""
    digest = client.describe_model("pixels").model.digest
    return lambda x: encoding([x, *[1.0] * 63], digest)


def look(client: Client, gallery: str, probe: Encoding, tau: float, **how: object) -> IdentifyResult:
    return client.identify(gallery, probe, tau=tau, **how).results[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("fusion", RULES)
def test_a_probe_nearer_to_a_negative_is_not_given_the_subject(
    client: Client, gallery: str, at: Make, fusion: FusionName
) -> None:
    client.set_fusion(gallery, fusion)
    client.enroll(gallery, "s", at(2))
    client.enroll(gallery, "t", at(6))
    tau = {"nearest": 9.0, "mean": 9.0, "margin": 6.0}[fusion]  # t is 9 - 0.3 * 1 away, s is 1 - 0.3 * 9
    assert look(client, gallery, at(3), tau).subject_id == "s"
    number = client.add_negative(gallery, "s", at(3.5)).negative_id
    found = look(client, gallery, at(3), 2.0)
    assert (found.decision, found.unknown_reason) == (DECISION_UNKNOWN, UNKNOWN_REASON_NEGATIVE)
    assert [one.subject_id for one in found.candidates] == ["s", "t"]
    assert found.candidates[0].negative == NearerNegative(id=number, distance=0.25)
    assert not found.candidates[1].HasField("negative")
    # Somebody else under tau is given.
    found = look(client, gallery, at(3), 9.0, all_matches=True, max_candidates=1)
    assert (found.decision, found.subject_id, found.unknown_reason) == (
        DECISION_IDENTIFIED,
        "t",
        UNKNOWN_REASON_UNSPECIFIED,
    )
    assert [one.subject_id for one in found.candidates] == ["s", "t"]
    assert [one.subject_id for one in found.matches] == ["t"]
    # Nearer to the subject than to the negative: nothing changes.
    assert look(client, gallery, at(2.2), 2.0).subject_id == "s"
    client.delete_negative(gallery, "s", number)
    assert look(client, gallery, at(3), 2.0).subject_id == "s"


@pytest.mark.parametrize("fusion", RULES)
def test_verify_says_no(client: Client, gallery: str, at: Make, fusion: FusionName) -> None:
    client.set_fusion(gallery, fusion)
    client.enroll(gallery, "s", at(2), at(4))
    before = client.verify(gallery, "s", at(3.1), tau=9)
    assert before.same
    assert not before.HasField("negative")
    number = client.add_negative(gallery, "s", at(3)).negative_id
    after = client.verify(gallery, "s", at(3.1), tau=9)
    assert not after.same
    assert after.negative.id == number
    assert after.negative.distance == pytest.approx(0.01, rel=1e-4)
    assert after.distance == before.distance
    assert client.verify(gallery, "s", at(3.8), tau=9).same  # 0.04 from the subject


def test_far_from_everybody_is_no_matter_of_negatives(client: Client, gallery: str, at: Make) -> None:
    client.enroll(gallery, "s", at(2))
    client.add_negative(gallery, "s", at(9))
    found = look(client, gallery, at(9), 1.0)
    assert (found.decision, found.unknown_reason) == (DECISION_UNKNOWN, UNKNOWN_REASON_NOBODY_NEAR)


def test_the_gap_is_between_those_who_can_be_given(client: Client, gallery: str, at: Make) -> None:
    for name, x in (("s", 2.0), ("t", 4.0), ("u", 4.5)):
        client.enroll(gallery, name, at(x))
    client.add_negative(gallery, "s", at(3))
    found = look(client, gallery, at(3), 9.0, least_gap=2.0, max_candidates=1)
    assert (found.nearest_subject_id, found.next_subject_id, found.gap) == ("t", "u", 1.25)
    assert found.unknown_reason == UNKNOWN_REASON_AMBIGUOUS


def test_negatives_are_listed_counted_and_go_with_their_subject(client: Client, gallery: str, at: Make) -> None:
    client.enroll(gallery, "s", at(2))
    numbers = [client.add_negative(gallery, "s", at(x)).negative_id for x in (3, 4)]
    again = client.add_negative(gallery, "s", at(3))
    assert again.negative_id == numbers[0]
    assert [one.id for one in client.get_subject(gallery, "s").negatives] == numbers
    assert [one.id for one in next(iter(client.list_subjects(gallery))).negatives] == numbers
    assert client.get_gallery(gallery).negative_count == 2
    assert client.get_gallery(gallery).revision == again.provenance.gallery_revision
    client.delete_subject(gallery, "s")
    assert client.get_gallery(gallery).negative_count == 0


def test_what_cannot_be_is_refused(client: Client, gallery: str, at: Make) -> None:
    client.enroll(gallery, "s", at(2))
    for call, reason in (
        (lambda: client.add_negative(gallery, "nobody", at(3)), "SUBJECT_NOT_FOUND"),
        (lambda: client.add_negative("nowhere", "s", at(3)), "GALLERY_NOT_FOUND"),
        (lambda: client.delete_negative(gallery, "s", "77"), "NEGATIVE_NOT_FOUND"),
        (lambda: client.delete_negative(gallery, "nobody", "77"), "SUBJECT_NOT_FOUND"),
    ):
        with pytest.raises(NotFoundError) as missing:
            call()
        assert missing.value.reason == reason
    with pytest.raises(FailedPreconditionError) as caught:
        client.add_negative(gallery, "s", at(2))
    assert caught.value.reason == "NEGATIVE_ENROLLED"
    with pytest.raises(OneglanceError) as foreign:
        client.add_negative(gallery, "s", encoding(np.ones(64), "of another encoder"))
    assert foreign.value.code.name == "FAILED_PRECONDITION"
    for x in range(64):
        client.add_negative(gallery, "s", at(3 + x))
    with pytest.raises(FailedPreconditionError) as full:
        client.add_negative(gallery, "s", at(99))
    assert full.value.reason == "LIMIT_EXCEEDED"


def test_strangers_who_are_kept_out_by_a_negative_calibrate_as_such(client: Client, gallery: str, at: Make) -> None:
    client.enroll(gallery, "s", at(2))
    client.enroll(gallery, "t", at(20))
    strangers = (2.5, 2.6, *(9 + x / 10 for x in range(18)))  # of whom one is let in
    probes = [*(stranger(at(x)) for x in strangers), mate(at(2.1), "s")]
    before = client.calibrate(gallery, iter(probes), target_fpir=0.05, dry_run=True)
    client.add_negative(gallery, "s", at(2.55))
    after = client.calibrate(gallery, iter(probes), target_fpir=0.05, dry_run=True)
    assert before.calibration.tau < 0.37 < after.calibration.tau


def test_they_are_there_after_a_restart(models: tuple[Path, Path], tmp_path: Path) -> None:
    for round in range(2):
        with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
            if not round:
                client.create_gallery("g", encoder="pixels")
                client.enroll("g", "s", picture(1))
                client.add_negative("g", "s", picture(2))
            found = client.identify("g", picture(2), tau=10).results[0]
            assert found.unknown_reason == UNKNOWN_REASON_NEGATIVE


def test_the_cli(server: Server, gallery: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--server", server.address]) == status
        return "".join(capsys.readouterr())

    one, other = str(tmp_path / "one.npy"), str(tmp_path / "other.npy")
    np.save(one, picture(1))
    np.save(other, picture(2))
    run("enroll", gallery, "ada", one)
    number = run("add-negative", gallery, "ada", other).split()[2].rstrip(",")
    assert f"negative id {number}" in run("get-subject", gallery, "ada")
    assert "1 negative," in run("get-gallery", gallery)
    assert "has a negative that is nearer" in run("identify", gallery, other, "--tau", "10")
    assert "from a negative" in run("verify", gallery, "ada", other, "--tau", "10", status=3)
    assert "deleted" in run("delete-negative", gallery, "ada", number)
    assert "same" in run("verify", gallery, "ada", other, "--tau", "10")
