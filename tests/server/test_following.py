"""A tau that follows the gallery, through a real server whose model was measured."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, stranger
from oneglance.v1.common_pb2 import (
    DOUBT_KIND_LIKE_ANOTHER,
    DOUBT_KIND_UNLIKE_OWN,
    THRESHOLD_SOURCE_CALIBRATION,
    THRESHOLD_SOURCE_GALLERY,
    THRESHOLD_SOURCE_MODEL,
    THRESHOLD_SOURCE_REQUEST,
    Threshold,
)
from oneglance.v1.gallery_pb2 import ThresholdVersion
from oneglance_apps.cli import main
from oneglance_core.expectation import Expectation
from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.manifests import FalsePositives, Galleries
from oneglance_core.measures import expected_fpir
from oneglance_index import LocalGalleries
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

LEVELS = (0.0001, 0.001, 0.01, 0.1, 0.9)
MEASURED = FalsePositives(
    data="made up",
    method="",
    people=100,
    levels=LEVELS,
    lows=(0.0, 0.0, 0.001, 0.05, 0.8),
    highs=(0.03, 0.035, 0.05, 0.18, 0.95),
    galleries=tuple(
        Galleries(
            fusion=fusion,
            examples=examples,
            gallery_size=size,
            taus=tuple(start - 0.01 * size - 0.02 * examples + 0.1 * i for i in range(len(LEVELS))),
        )
        for fusion, start in (("nearest", 0.5), ("mean", 0.6), ("margin", 0.2))
        for examples in (1, 3)
        for size in (1, 5, 10)
    ),
)
EXPECTED = Expectation(MEASURED)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = read_model_folder(pixels_model(tmp_path_factory.mktemp("measured") / "pixels"))
    manifest = folder.manifest.model_copy(update={"false_positives": MEASURED})
    return write_model_folder(folder.path, manifest, folder.model)


@pytest.fixture(scope="module")
def client(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        server_thread(data_dir=tmp_path_factory.mktemp("data"), models=(model,)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as connected,
    ):
        yield connected


def test_tau_follows_the_size_the_examples_and_the_rule(client: Client, gallery: str) -> None:
    assert client.get_gallery(gallery).target_fpir == 0.01
    for i in range(5):
        client.enroll(gallery, f"s{i}", picture(i))
        found = client.identify(gallery, picture(50)).threshold
        assert found.tau == pytest.approx(EXPECTED.tau(0.01, "mean", 1, i + 1))
        assert (found.source, found.target_fpir) == (THRESHOLD_SOURCE_MODEL, 0.01)
        assert found.id.endswith(f"/mean/1x{i + 1}")
        assert found == client.get_threshold(gallery) == client.get_gallery(gallery).threshold
        rate = EXPECTED.fpir(found.tau, "mean", 1.0, i + 1)
        assert found.expected_fpir == pytest.approx(0.01, rel=1e-6)
        assert (found.expected_fpir_low, found.expected_fpir_high) == (rate.low, rate.high)
    for i in range(5):
        client.enroll(gallery, f"s{i}", picture(100 + i), picture(200 + i))
    assert client.get_threshold(gallery).tau == pytest.approx(EXPECTED.tau(0.01, "mean", 3, 5))
    for fusion in ("nearest", "margin"):
        assert client.set_fusion(gallery, fusion).threshold.tau == pytest.approx(EXPECTED.tau(0.01, fusion, 3, 5))


def test_between_its_steps_tau_stays(client: Client, gallery: str) -> None:
    taus = []
    for i in range(20):
        client.enroll(gallery, f"s{i}", picture(i))
        found = client.get_threshold(gallery)
        taus.append(found.tau)
        assert found.expected_fpir <= 0.01 + 1e-9  # made for the next step, so rather below the target
    assert taus == sorted(taus, reverse=True)
    assert taus[15] == taus[16] == taus[19]
    assert taus[14] != taus[15]


def found_again(client: Client, gallery: str, threshold: Threshold) -> ThresholdVersion:
    """The version that an answer names."""
    (found,) = [one for one in client.list_thresholds(gallery) if one.version == threshold.version]
    assert (found.threshold.tau, found.threshold.id) == (threshold.tau, threshold.id)
    return found


def test_every_move_is_a_version_that_answers_name(client: Client, gallery: str) -> None:
    answers = []
    for i in range(16):
        client.enroll(gallery, f"s{i}", picture(i))
        answers.append(client.identify(gallery, picture(50)).threshold)
    versions = list(client.list_thresholds(gallery))
    # Of the empty gallery; then at 1 to 10 (1 is as 0), 11, 13 and 16 subjects.
    assert [one.subject_count for one in reversed(versions)] == [0, *range(2, 11), 11, 13, 16]
    assert [one.encoding_count for one in versions] == [one.subject_count for one in versions]
    assert [one.version for one in versions] == list(range(len(versions), 0, -1))
    taus = [one.threshold.tau for one in versions]
    assert taus == sorted(set(taus))
    assert len({answer.version for answer in answers}) == len(versions)
    for i, answer in enumerate(answers):
        version = found_again(client, gallery, answer)
        assert version.subject_count <= i + 1
        assert (version.threshold.source, version.threshold.target_fpir) == (THRESHOLD_SOURCE_MODEL, 0.01)
        assert version.set_time == answer.set_time
    assert client.get_threshold(gallery) == versions[0].threshold
    assert client.verify(gallery, "s0", picture(60)).threshold.version == 0


def test_it_moves_back_only_where_it_is_far_too_careful(client: Client, gallery: str) -> None:
    for i in range(13):
        client.enroll(gallery, f"s{i}", picture(i))
    before = client.get_threshold(gallery)
    for _ in range(3):  # to and fro between two steps: 12 and 15
        client.delete_subject(gallery, "s12")
        assert client.get_threshold(gallery).version == before.version
        client.enroll(gallery, "s12", picture(12))
        assert client.get_threshold(gallery).version == before.version
    for i in (12, 11, 10):
        client.delete_subject(gallery, f"s{i}")
    after = client.get_threshold(gallery)
    assert (after.version, after.id.rpartition("/")[2]) == (before.version + 1, "1x10")
    # A few examples more are let pass, not many; and it moves back when there are no more of them.
    client.enroll(gallery, "s0", picture(30))
    assert client.get_threshold(gallery).version == after.version
    for i in range(1, 5):
        client.enroll(gallery, f"s{i}", picture(30 + i))
    assert client.get_threshold(gallery).id.endswith("/2x10")


def test_a_set_tau_and_a_following_one_share_their_versions(client: Client, gallery: str) -> None:
    client.enroll(gallery, "s", picture(0))
    assert client.get_threshold(gallery).version == 1
    fixed = client.set_threshold(gallery, 0.25)
    assert (fixed.version, fixed.id) == (2, "2")
    for i in range(5):
        client.enroll(gallery, f"s{i}", picture(i))  # the own one doesn't follow
    assert client.identify(gallery, picture(60)).threshold.version == 2
    again = client.set_threshold(gallery, None)
    versions = list(client.list_thresholds(gallery))
    assert [one.HasField("threshold") for one in versions] == [True, False, True, True]  # 3 cleared the own one
    assert (again.version, found_again(client, gallery, again).subject_count) == (4, 6)
    assert client.identify(gallery, picture(60), tau=0.3).threshold.version == 0


def test_versions_and_tau_are_there_after_a_restart_whatever_was_measured_since(model: Path, tmp_path: Path) -> None:
    """Until it is told or its size moves it: then what was measured since counts."""
    with server_thread(data_dir=tmp_path / "data", models=(model,)) as server, Client(server.address) as client:
        client.create_gallery("g")
        for i in range(4):
            client.enroll("g", f"s{i}", picture(i))
        before, versions = client.get_threshold("g"), list(client.list_thresholds("g"))
    folder = read_model_folder(model)
    lower = [one.model_copy(update={"taus": tuple(tau - 0.05 for tau in one.taus)}) for one in MEASURED.galleries]
    changed = MEASURED.model_copy(update={"galleries": tuple(lower)})
    other = tmp_path / "other"
    shutil.copytree(model, other)
    write_model_folder(other, folder.manifest.model_copy(update={"false_positives": changed}), folder.model)
    with server_thread(data_dir=tmp_path / "data", models=(other,)) as server, Client(server.address) as client:
        kept = client.get_threshold("g")
        assert (kept.tau, kept.version, kept.id) == (before.tau, before.version, before.id)
        assert kept.expected_fpir > 0.01  # by what is known now
        assert [(one.version, one.threshold.tau) for one in client.list_thresholds("g")] == [
            (one.version, one.threshold.tau) for one in versions
        ]
        client.enroll("g", "s4", picture(4))
        moved = client.get_threshold("g")
        assert moved.version == before.version + 1
        assert moved.tau == pytest.approx(EXPECTED.tau(0.01, "mean", 1, 5) - 0.05)
    with server_thread(data_dir=tmp_path / "data", models=(model,)) as server, Client(server.address) as client:
        assert client.get_threshold("g").tau == moved.tau
        told = client.set_threshold("g", None, target_fpir=0.01)
        assert told.version == moved.version + 1
        assert told.tau == pytest.approx(EXPECTED.tau(0.01, "mean", 1, 5))


def test_the_command_lists_the_moves(client: Client, gallery: str, capsys: pytest.CaptureFixture[str]) -> None:
    client.enroll(gallery, "a", picture(0), picture(1))
    client.enroll(gallery, "b", picture(2), picture(3))
    assert main(["list-thresholds", gallery, "--server", client.target]) == 0
    newest, _, oldest = capsys.readouterr().out.splitlines()
    assert " at 2 subjects, 4 encodings: tau " in newest
    assert newest.startswith("3 ")
    assert "/mean/2x2, version 3), expected FPIR about 1.00%" in newest
    assert oldest.startswith("1 ")


def test_decisions_and_matches_go_by_it(client: Client, gallery: str) -> None:
    for i in range(4):
        client.enroll(gallery, f"s{i}", picture(i))
    answer = client.identify(gallery, *(picture(i) for i in range(8)), max_candidates=4, all_matches=True)
    for result in answer.results:
        under = [c.subject_id for c in result.candidates if c.distance <= answer.threshold.tau]
        assert [c.subject_id for c in result.matches] == under
        assert result.subject_id == (under[0] if under else "")


def test_a_target_a_fixed_tau_and_one_of_the_request(client: Client, gallery: str) -> None:
    client.enroll(gallery, "s", picture(0))
    followed = client.set_threshold(gallery, None, target_fpir=0.1)
    assert followed.tau == pytest.approx(EXPECTED.tau(0.1, "mean", 1, 1))
    assert followed.target_fpir == 0.1
    fixed = client.set_threshold(gallery, 0.25)
    assert (fixed.source, fixed.tau) == (THRESHOLD_SOURCE_GALLERY, 0.25)
    assert fixed.expected_fpir == EXPECTED.fpir(0.25, "mean", 1.0, 1).value
    assert client.identify(gallery, picture(1), tau=0.3).threshold.source == THRESHOLD_SOURCE_REQUEST
    again = client.set_threshold(gallery, None)
    assert (again.tau, again.id, again.target_fpir) == (followed.tau, followed.id, followed.target_fpir)
    for bad in (0.0, 1.0, float("nan")):
        with pytest.raises(OneglanceError) as caught:
            client.set_threshold(gallery, None, target_fpir=bad)
        assert caught.value.field_violations[0][0] == "target_fpir"
    with pytest.raises(OneglanceError) as caught:
        client.set_threshold(gallery, 0.25, target_fpir=0.1)
    assert caught.value.field_violations[0][0] == "target_fpir"


def test_a_claim_has_a_target_of_its_own_whatever_the_size(client: Client, gallery: str) -> None:
    for size in (1, 4):
        for i in range(size):
            client.enroll(gallery, f"s{i}", picture(i), on_existing="replace")
        claim = client.verify(gallery, "s0", picture(60)).threshold
        assert claim.tau == pytest.approx(EXPECTED.tau(0.001, "mean", 1, 1))
        assert claim.expected_fmr == pytest.approx(0.001)
        assert not claim.HasField("expected_fpir")
        assert not claim.HasField("target_fpir")
    asked = client.verify(gallery, "s0", picture(60), target_fmr=0.1).threshold
    assert asked.tau == pytest.approx(EXPECTED.tau(0.1, "mean", 1, 1))
    pair = client.compare(picture(0), picture(1), target_fmr=0.01).threshold
    assert pair.tau == pytest.approx(EXPECTED.tau(0.01, "nearest", 1, 1))
    with pytest.raises(OneglanceError) as caught:
        client.verify(gallery, "s0", picture(60), target_fmr=1.0)
    assert caught.value.field_violations[0][0] == "target_fmr"


def test_by_margin_a_claim_is_held_against_those_who_are_there(client: Client, gallery: str) -> None:
    """The others lower a wrong claim's score, too: tau for a gallery of one would let more of them in."""
    client.set_fusion(gallery, "margin")
    for i in range(5):
        client.enroll(gallery, f"s{i}", picture(i))
    claim = client.verify(gallery, "s0", picture(60), target_fmr=0.01).threshold
    assert claim.tau == pytest.approx(EXPECTED.tau(expected_fpir(0.01, 5), "margin", 1, 5))
    assert claim.expected_fmr == pytest.approx(0.01)
    assert not claim.HasField("expected_fpir")


def test_a_calibration_with_few_strangers_has_the_model_for_a_prior(client: Client, gallery: str) -> None:
    for i in range(5):
        client.enroll(gallery, f"s{i}", picture(i))
    made = client.calibrate(gallery, (stranger(png(picture(300 + i))) for i in range(10)), target_fpir=0.01)
    assert (made.calibration.non_mated_probes, made.threshold.source) == (10, THRESHOLD_SOURCE_CALIBRATION)
    assert made.calibration.fpir <= 0.01
    assert "beside what 100 people told of the model" in made.calibration.method
    assert made.threshold.tau < EXPECTED.tau(0.01, "mean", 1, 5)  # several of these would be let in at that
    assert made.threshold.expected_fpir_low < 0.01 < made.threshold.expected_fpir_high


def test_an_empty_gallery_lets_nobody_in(client: Client, gallery: str) -> None:
    found = client.identify(gallery, picture(0)).threshold
    assert found.expected_fpir == found.expected_fpir_low == found.expected_fpir_high == 0


def test_a_gallery_made_before_keeps_its_rule_and_tau(model: Path, tmp_path: Path) -> None:
    digest = read_model_folder(model).digest
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("old", encoder_digest=digest, dimension=64).result()  # as schema 3 has them
    with (
        server_thread(data_dir=tmp_path, models=(model,)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.enroll("old", "s", picture(0))
        found = client.identify("old", picture(1)).threshold
        assert (found.tau, found.source) == (0.5, THRESHOLD_SOURCE_MODEL)
        assert client.verify("old", "s", picture(1)).threshold.tau == 0.5
        assert not client.get_gallery("old").HasField("target_fpir")
        assert client.set_threshold("old", None, target_fpir=0.01).tau != 0.5


def test_what_is_doubtful_follows_too(client: Client, gallery: str) -> None:
    """By single encodings, whatever the rule of fusion: the tau of `nearest`, and that of 5 % of wrong claims."""
    same = picture(1)
    client.enroll(gallery, "a", same, picture(2), picture(3))
    for i in range(3):
        client.enroll(gallery, f"s{i}", picture(i + 10))
    for fusion in ("mean", "margin", "nearest"):
        client.set_fusion(gallery, fusion)
        doubts = client.enroll(gallery, f"b {fusion}", same).doubts
        (doubt,) = doubts
        assert (doubt.kind, doubt.distance) == (DOUBT_KIND_LIKE_ANOTHER, 0)
        gallery_now = client.get_gallery(gallery)
        size, encodings = gallery_now.subject_count - 1, gallery_now.encoding_count - 1
        expected = EXPECTED.tau(0.01, "nearest", math.ceil(encodings / size - 0.25), size)
        assert doubt.limit == pytest.approx(expected)
    white_left, white_right = np.full((8, 8, 1), 255, np.uint8), np.full((8, 8, 1), 255, np.uint8)
    white_left[:, :4] = white_right[:, 4:] = 0
    far = client.enroll(gallery, "two", white_left, white_right).doubts
    assert [one.limit for one in far if one.kind == DOUBT_KIND_UNLIKE_OWN] == [
        pytest.approx(EXPECTED.tau(0.05, "nearest", 1, 1))
    ] * 2
