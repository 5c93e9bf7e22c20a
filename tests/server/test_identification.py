"""Answers through the wire against brute force in numpy, and the semantics around them."""

import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoding, enroll_request, identify_request
from oneglance.v1.common_pb2 import (
    THRESHOLD_SOURCE_GALLERY,
    THRESHOLD_SOURCE_MODEL,
    THRESHOLD_SOURCE_REQUEST,
)
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    DECISION_UNKNOWN,
    UNKNOWN_REASON_AMBIGUOUS,
    UNKNOWN_REASON_NOBODY_NEAR,
)
from tests.models import pixels
from tests.pictures import picture, png


@pytest.fixture
def digest(client: Client) -> str:
    return client.describe_model("pixels").model.digest


def test_identify_equals_brute_force(client: Client, gallery: str, digest: str) -> None:
    client.set_fusion(gallery, "nearest")
    rng = np.random.default_rng(7)
    subjects, per_subject = 40, 3
    vectors = rng.standard_normal((subjects, per_subject, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    for i, rows in enumerate(vectors):
        client.enroll(gallery, f"s{i:02}", *(encoding(row, digest) for row in rows))
    probes = rng.standard_normal((30, 64)).astype(np.float32)
    probes[:10] = vectors[:10, 1] + 0.02 * probes[:10]
    tau = 1.5
    answer = client.identify(
        gallery, *(encoding(p, digest) for p in probes), max_candidates=7, tau=tau, all_matches=True
    )
    exact = ((probes.astype(np.float64)[:, None, None] - vectors.astype(np.float64)) ** 2).sum(-1)
    nearest = exact.min(axis=2).astype(np.float32)  # [probes, subjects]
    for probe, result in zip(nearest, answer.results, strict=True):
        order = np.argsort(probe, kind="stable")
        assert [c.subject_id for c in result.candidates] == [f"s{i:02}" for i in order[:7]]
        assert [c.distance for c in result.candidates] == pytest.approx(probe[order[:7]].tolist(), abs=1e-6)
        under = [f"s{i:02}" for i in order if probe[i] <= tau]
        assert [c.subject_id for c in result.matches] == under
        assert (result.decision == DECISION_IDENTIFIED) == bool(under)
        assert result.subject_id == (under[0] if under else "")
        assert not result.matches_truncated
    assert {r.decision for r in answer.results} == {DECISION_IDENTIFIED, DECISION_UNKNOWN}


def test_pictures_tensors_and_encodings_are_the_same_probe(client: Client, gallery: str, digest: str) -> None:
    drawing = picture(5)
    client.enroll(gallery, "it", png(drawing))
    client.enroll(gallery, "other", png(picture(6)))
    vector = pixels(drawing[np.newaxis])[0]
    assert client.encode(png(drawing), encoder="pixels").encodings[0].values == pytest.approx(vector, abs=1e-6)
    answer = client.identify(gallery, png(drawing), drawing, encoding(vector, digest))
    assert [r.subject_id for r in answer.results] == ["it"] * 3
    assert [r.candidates[0].distance for r in answer.results] == pytest.approx([0] * 3, abs=1e-6)
    other = pixels(picture(6)[np.newaxis])[0]
    expected = float(((vector - other).astype(np.float64) ** 2).sum())
    assert client.verify(gallery, "other", drawing).distance == pytest.approx(expected, abs=1e-6)
    assert client.compare(drawing, png(picture(6)), encoder="pixels").distance == pytest.approx(expected, abs=1e-6)


def test_tau_decides_inclusively_and_says_where_it_came_from(client: Client, gallery: str) -> None:
    client.enroll(gallery, "it", picture(5))
    distance = client.identify(gallery, picture(6)).results[0].candidates[0].distance
    below = float(np.nextafter(distance, 0))
    assert client.identify(gallery, picture(6), tau=distance).results[0].decision == DECISION_IDENTIFIED
    assert client.identify(gallery, picture(6), tau=below).results[0].decision == DECISION_UNKNOWN
    assert client.verify(gallery, "it", picture(6), tau=distance).same
    assert not client.verify(gallery, "it", picture(6), tau=below).same

    from_model = client.identify(gallery, picture(6)).threshold
    assert (from_model.source, from_model.tau) == (THRESHOLD_SOURCE_MODEL, 0.5)
    assert len(from_model.id) == 12
    own = client.set_threshold(gallery, distance)
    assert (own.source, own.tau) == (THRESHOLD_SOURCE_GALLERY, distance)
    assert client.identify(gallery, picture(6)).results[0].decision == DECISION_IDENTIFIED
    client.set_threshold(gallery, below)
    assert client.identify(gallery, picture(6)).results[0].decision == DECISION_UNKNOWN
    requested = client.identify(gallery, picture(6), tau=distance).threshold
    assert (requested.source, requested.tau) == (THRESHOLD_SOURCE_REQUEST, distance)
    assert client.set_threshold(gallery, None).source == THRESHOLD_SOURCE_MODEL
    assert client.get_threshold(gallery).tau == 0.5


def test_the_gap_to_the_next_subject_is_said_and_can_be_asked_for(client: Client, gallery: str) -> None:
    alone = client.identify(gallery, picture(5), tau=4.0).results[0]
    assert (alone.unknown_reason, alone.HasField("gap")) == (UNKNOWN_REASON_NOBODY_NEAR, False)
    client.enroll(gallery, "it", picture(5))
    alone = client.identify(gallery, picture(5), least_gap=1.0).results[0]
    assert (alone.subject_id, alone.unknown_reason, alone.HasField("gap")) == ("it", 0, False)
    client.enroll(gallery, "other", picture(6))
    for most in (1, 2):
        plain = client.identify(gallery, picture(7), tau=4.0, max_candidates=most).results[0]
        assert len(plain.candidates) == most
        assert (plain.nearest_subject_id, plain.unknown_reason) == (plain.subject_id, 0)
        assert {plain.nearest_subject_id, plain.next_subject_id} == {"it", "other"}
    near, following = plain.candidates
    assert plain.gap == following.distance - near.distance > 0
    enough = client.identify(gallery, picture(7), tau=4.0, least_gap=plain.gap).results[0]
    assert enough.subject_id == near.subject_id
    wanted = float(np.nextafter(plain.gap, 9))
    doubtful = client.identify(gallery, picture(7), tau=4.0, least_gap=wanted, max_candidates=1).results[0]
    assert (doubtful.decision, doubtful.subject_id) == (DECISION_UNKNOWN, "")
    assert doubtful.unknown_reason == UNKNOWN_REASON_AMBIGUOUS
    assert (doubtful.nearest_subject_id, doubtful.next_subject_id) == (near.subject_id, following.subject_id)
    stranger = client.identify(gallery, picture(7), tau=0.0, least_gap=wanted).results[0]
    assert stranger.unknown_reason == UNKNOWN_REASON_NOBODY_NEAR
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(OneglanceError) as caught:
            client.identify(gallery, picture(7), least_gap=bad)
        assert caught.value.field_violations[0][0] == "least_gap"


def test_expected_fpir_follows_the_size_of_the_gallery(client: Client, gallery: str) -> None:
    for i in range(3):
        client.enroll(gallery, f"s{i}", picture(i))
    threshold = client.identify(gallery, picture(9), tau=0.1).threshold
    assert threshold.expected_fpir == pytest.approx(1 - (1 - 0.0001) ** 3)  # the test model's FMR at 0.1
    assert client.get_gallery(gallery).threshold.expected_fpir == pytest.approx(
        1 - (1 - np.interp(0.5, [0.1, 1.0], [0.0001, 0.1])) ** 3
    )


def test_an_empty_gallery_knows_nobody(client: Client, gallery: str) -> None:
    answer = client.identify(gallery, picture(1), all_matches=True)
    assert answer.results[0].decision == DECISION_UNKNOWN
    assert not answer.results[0].candidates
    assert not answer.results[0].matches
    assert answer.provenance.gallery_size == 0


def test_provenance_names_what_answered(client: Client, gallery: str, digest: str) -> None:
    enrolled = client.enroll(gallery, "it", picture(5)).provenance
    assert (enrolled.execution_provider, enrolled.gallery_revision) == ("CPUExecutionProvider", 1)
    seen = client.identify(gallery, picture(5)).provenance
    assert (seen.encoder_digest, seen.execution_provider) == (digest, "CPUExecutionProvider")
    assert (seen.index_kind, seen.index_device, seen.exact) == ("flat", "cpu", True)
    assert (seen.gallery_revision, seen.gallery_size) == (1, 1)
    by_encoding = client.identify(gallery, encoding(np.ones(64), digest)).provenance
    assert by_encoding.execution_provider == "client"


def test_deletion_is_in_effect_in_the_next_answer(client: Client, gallery: str) -> None:
    client.set_fusion(gallery, "nearest")  # which names the encoding
    first = client.enroll(gallery, "it", picture(5), picture(6)).encoding_ids
    client.enroll(gallery, "other", picture(7))
    assert client.identify(gallery, picture(5)).results[0].candidates[0].encoding_id == first[0]
    assert not client.delete_encoding(gallery, "it", first[0]).subject_deleted
    assert client.identify(gallery, picture(5)).results[0].candidates[0].distance > 0.01
    assert client.delete_encoding(gallery, "it", first[1]).subject_deleted
    assert [c.subject_id for c in client.identify(gallery, picture(5)).results[0].candidates] == ["other"]
    assert client.delete_subject(gallery, "other").deleted_encodings == 1
    assert client.identify(gallery, picture(5)).results[0].decision == DECISION_UNKNOWN


def test_enrolling_again_adds_replaces_or_is_replayed(client: Client, gallery: str) -> None:
    assert client.enroll(gallery, "it", picture(5), labels={"name": "a"}, request_id="one").created
    again = client.enroll(gallery, "it", picture(5), labels={"name": "a"}, request_id="one")
    assert again.replayed
    assert len(client.get_subject(gallery, "it").encodings) == 1
    assert not client.enroll(gallery, "it", picture(6)).created
    assert len(client.get_subject(gallery, "it").encodings) == 2
    assert client.get_subject(gallery, "it").labels == {"name": "a"}
    client.enroll(gallery, "it", picture(7), labels={"name": "b"}, on_existing="replace")
    subject = client.get_subject(gallery, "it")
    assert (len(subject.encodings), dict(subject.labels)) == (1, {"name": "b"})
    assert client.identify(gallery, picture(7)).results[0].candidates[0].distance == 0
    assert client.identify(gallery, picture(5)).results[0].candidates[0].distance > 0.01


def test_replacing_takes_the_labels_too(client: Client, gallery: str) -> None:
    client.enroll(gallery, "it", picture(5), labels={"name": "Bob", "born": "1990"})
    client.enroll(gallery, "it", picture(6))
    assert len(client.get_subject(gallery, "it").labels) == 2
    client.enroll(gallery, "it", picture(7), on_existing="replace")
    assert dict(client.get_subject(gallery, "it").labels) == {}


def test_the_length_of_an_answer_is_bounded(client: Client, gallery: str, digest: str) -> None:
    items = [enroll_request(gallery, f"s{i:04}", [encoding(np.eye(64)[i % 64] + i + 1, digest)]) for i in range(300)]
    assert all(answer.HasField("enrolled") for answer in client.bulk_enroll(iter(items)))
    probes = [encoding(np.ones(64) * (i + 1), digest) for i in range(1000)]
    answer = client.identify(gallery, *probes, max_candidates=50, tau=1e9, all_matches=True)
    assert {len(result.candidates) for result in answer.results} == {50}
    assert {len(result.matches) for result in answer.results} == {50}  # 50,000 over all
    assert all(result.matches_truncated for result in answer.results)
    assert [c.subject_id for c in answer.results[0].matches] == [c.subject_id for c in answer.results[0].candidates]


def test_a_probe_without_usable_encoding_fails_alone(client: Client) -> None:
    client.create_gallery("signals", encoder="signal")
    good, huge = np.ones((6, 2), np.float32), np.full((6, 2), 1e30, np.float32)
    client.enroll("signals", "it", good)
    with pytest.raises(OneglanceError) as caught:
        client.identify("signals", good, huge, tau=0.1)
    assert caught.value.reason == "NO_ENCODING"
    assert caught.value.field_violations[0][0] == "probes[1].tensor"
    with pytest.raises(OneglanceError):
        client.compare(huge, -huge, encoder="signal", tau=1)
    requests = [identify_request("signals", [probe], tau=0.1) for probe in [good, huge] * 20]
    outcomes = [answer.WhichOneof("outcome") for answer in client.identify_stream(iter(requests))]
    assert outcomes == ["response", "error"] * 20
    client.delete_gallery("signals")


def test_streams_answer_in_order(client: Client, gallery: str) -> None:
    for i in range(20):
        client.enroll(gallery, f"s{i:02}", picture(i))
    requests = (identify_request(gallery, [picture(i % 20)]) for i in range(500))
    answers = list(client.identify_stream(requests))
    assert [a.index for a in answers] == list(range(500))
    assert [a.response.results[0].subject_id for a in answers] == [f"s{i % 20:02}" for i in range(500)]


def test_listing_pages_through_everything(client: Client, gallery: str) -> None:
    from oneglance.v1.subject_pb2 import ListSubjectsRequest

    names = sorted(f"subject {i} ü" for i in range(25))
    for i, name in enumerate(names):
        client.enroll(gallery, name, picture(i))
    assert [s.id for s in client.list_subjects(gallery)] == names
    seen, token = [], ""
    while True:
        page = client._call(
            client._subjects.ListSubjects, ListSubjectsRequest(gallery_id=gallery, page_size=10, page_token=token)
        )
        seen += [s.id for s in page.subjects]
        token = page.next_page_token
        if not token:
            break
    assert seen == names
    assert gallery in [g.id for g in client.list_galleries()]


def test_models_are_described(client: Client, digest: str) -> None:
    assert [m.name for m in client.list_models()] == ["pixels", "signal"]
    model = client.describe_model(digest)
    assert model.model.name == "pixels"
    assert '"metric": "squared_l2"' in model.manifest_json
    assert not client.describe_model("signal").model.HasField("threshold")
