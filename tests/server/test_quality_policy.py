"""What a gallery demands of faces: refused or told of at enrollment, told of at a probe, with figure and limit."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneglance import Client, OneglanceError, enroll_request, photo
from oneglance.client.errors import InvalidArgumentError, from_error
from oneglance.client.requests import QualityPolicy
from oneglance.v1.common_pb2 import Breach
from oneglance.v1.face_pb2 import (
    QUALITY_POLICY_OFF,
    QUALITY_POLICY_STANDARD,
    QUALITY_POLICY_STRICT,
)
from oneglance.v1.gallery_pb2 import CreateGalleryRequest, SetQualityPolicyRequest
from oneglance_apps.cli import main
from oneglance_core.faces.quality import LIMITS
from oneglance_server.app import Server
from tests import face_models
from tests.face_models import WINDOW, encoded
from tests.running import server_thread

ADA, BOB = 1, 2
EYES = 4.5 / 8  # distance of the eyes, of a tiny face's side
SIDE = 10  # of a face too small for either policy
SMALL = encoded(face_models.photo({(20, 30): ADA}, size=(96, 128), side=SIDE))
LARGE = encoded(face_models.photo({(32, 32): ADA}, size=(256, 384), side=8 * WINDOW))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("quality")
    models = (face_models.face_models(folder / "models"),)
    with server_thread(data_dir=folder / "data", models=models, min_face=10) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def limit(policy: QualityPolicy, figure: str) -> float | None:
    (one,) = [limit for limit in LIMITS[policy or "standard"] if limit.figure == figure]
    return one.least


def eye_breaches(found: object) -> list[Breach]:
    return [one for one in found if one.figure == "eye_distance"]  # type: ignore[attr-defined]


def test_a_new_gallery_has_the_standard_policy_and_says_which_it_has(client: Client) -> None:
    assert client.create_gallery("default").quality_policy == QUALITY_POLICY_STANDARD
    assert client.create_gallery("none", quality_policy="off").quality_policy == QUALITY_POLICY_OFF
    assert client.set_quality_policy("none", "strict").quality_policy == QUALITY_POLICY_STRICT
    assert client.get_gallery("none").quality_policy == QUALITY_POLICY_STRICT
    assert {g.id: g.quality_policy for g in client.list_galleries()}["none"] == QUALITY_POLICY_STRICT


def test_a_policy_that_is_none_is_refused(client: Client) -> None:
    client.create_gallery("policies")
    calls = client._galleries
    with pytest.raises(Exception, match="must be OFF, STANDARD or STRICT, got 7"):
        calls.CreateGallery(CreateGalleryRequest(gallery_id="x", quality_policy=7))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="must be OFF, STANDARD or STRICT, got 0"):
        calls.SetQualityPolicy(SetQualityPolicyRequest(gallery_id="policies"))
    with pytest.raises(OneglanceError) as caught:
        client.set_quality_policy("nowhere", "strict")
    assert caught.value.reason == "GALLERY_NOT_FOUND"


@pytest.mark.parametrize("policy", ["standard", "strict"])
def test_a_face_outside_is_refused_at_enrollment_with_figure_and_limit(client: Client, policy: QualityPolicy) -> None:
    client.create_gallery(f"refuses {policy}", quality_policy=policy)
    with pytest.raises(InvalidArgumentError) as caught:
        client.enroll(f"refuses {policy}", "ada", LARGE, SMALL)
    error = caught.value
    assert error.reason == "QUALITY_TOO_LOW"
    assert error.field_violations[0][0] == "examples[1].image"  # the first example is fine
    (broken,) = eye_breaches(error.breaches)
    assert broken.field == "examples[1].image"
    assert broken.value == pytest.approx(EYES * SIDE)
    assert (broken.least, broken.HasField("most")) == (limit(policy, "eye_distance"), False)
    assert f"eye_distance {broken.value:.3g}, at least {broken.least:g}" in error.message
    assert client.get_gallery(f"refuses {policy}").subject_count == 0


def test_what_is_accepted_nonetheless_is_enrolled_and_told_of(client: Client) -> None:
    client.create_gallery("accepts")
    answer = client.enroll("accepts", "ada", LARGE, SMALL, accept_breaches=True)
    assert len(answer.encoding_ids) == 2
    assert {one.field for one in answer.breaches} == {"examples[1].image"}
    (broken,) = eye_breaches(answer.breaches)
    assert broken.least == limit("standard", "eye_distance")
    again = client.bulk_enroll([enroll_request("accepts", "bob", [SMALL]), enroll_request("accepts", "eve", [LARGE])])
    refused, enrolled = list(again)
    assert from_error(refused.error).reason == "QUALITY_TOO_LOW"
    assert eye_breaches(refused.error.breaches)
    assert not enrolled.enrolled.breaches


def test_a_probe_outside_is_answered_and_told_of(client: Client) -> None:
    client.create_gallery("probes")
    client.enroll("probes", "ada", LARGE)
    both = face_models.photo({(32, 32): ADA}, size=(256, 384), side=8 * WINDOW)
    both[200 : 200 + SIDE, 320 : 320 + SIDE] = face_models.photo({(0, 0): BOB}, size=(SIDE, SIDE), side=SIDE)
    fine, small = client.identify("probes", photo(encoded(both), small_faces="always")).results
    assert (fine.subject_id, list(fine.breaches)) == ("ada", [])
    assert [one.field for one in eye_breaches(small.breaches)] == ["probes[0].image"]
    assert [one.field for one in eye_breaches(client.verify("probes", "ada", SMALL).breaches)] == ["probe.image"]
    told = client.compare(LARGE, SMALL, gallery_id="probes").breaches
    assert [one.field for one in eye_breaches(told)] == ["other.image"]


def test_without_a_policy_nothing_is_refused_or_told_of(client: Client) -> None:
    client.create_gallery("off", quality_policy="off")
    assert not client.enroll("off", "ada", SMALL).breaches
    assert not client.identify("off", SMALL).results[0].breaches
    client.set_quality_policy("off", "standard")
    assert client.identify("off", SMALL).results[0].breaches


def test_aligned_faces_have_no_quality_to_break_a_limit(client: Client) -> None:
    client.create_gallery("aligned")
    assert not client.enroll("aligned", "ada", photo(SMALL, "aligned")).breaches


def test_the_figures_of_a_face_are_in_the_answer(client: Client) -> None:
    (face,) = client.detect_faces(LARGE).photos[0].faces
    assert face.quality.eye_distance == pytest.approx(EYES * 8 * WINDOW, rel=0.1)
    assert face.quality.alignment_error == pytest.approx(0, abs=1e-4)


def test_the_command_line_sets_policies_and_tells_of_breaches(
    server: Server, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str, status: int = 0) -> str:
        assert main([words[0], "--server", server.address, *words[1:]]) == status
        told = capsys.readouterr()
        return told.out + told.err

    (tmp_path / "small.png").write_bytes(SMALL)
    small = str(tmp_path / "small.png")
    assert "quality policy strict" in run("create-gallery", "cli", "--quality-policy", "strict")
    assert "QUALITY_TOO_LOW" in run("enroll", "cli", "ada", small, status=1)
    refused = json.loads(run("enroll", "cli", "ada", small, "--json", status=1).splitlines()[0])
    assert refused["breaches"][0]["figure"] == "eye_distance"
    told = run("enroll", "cli", "ada", small, "--accept-breaches")
    assert f"doubtful: {small}: eye_distance" in told
    assert f"doubtful: {small}: eye_distance" in run("identify", "cli", small)
    assert f"doubtful: {small}: eye_distance" in run("verify", "cli", "ada", small)
    assert "quality policy off" in run("set-quality-policy", "cli", "off")
    assert "doubtful" not in run("identify", "cli", small)
