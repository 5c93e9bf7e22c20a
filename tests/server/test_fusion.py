"""A gallery's rule of fusion through a real server: what is compared with tau, by each rule."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from oneglance import Client, OneglanceError, encoding, stranger
from oneglance.client.requests import FUSIONS, FusionName
from oneglance.v1.common_pb2 import FUSION_MARGIN, FUSION_MEAN, FUSION_NEAREST, THRESHOLD_SOURCE_MODEL
from oneglance.v1.gallery_pb2 import CalibrationProbe, SetFusionRequest
from oneglance_apps.cli import main
from oneglance_core.fusion import Fusion
from oneglance_server.app import Server
from oneglance_server.calls import Call, Caller
from oneglance_server.offload import Threads
from oneglance_server.service.encoding import Encoding
from tests.index.brute_force import by_template, distance

SUBJECTS, EXAMPLES, DIMENSION = 12, 3, 64
RULES: list[Fusion] = ["nearest", "mean", "margin"]
Vectors = npt.NDArray[np.float32]
Scored = list[tuple[str, float, float]]  # subject, distance, score; nearest first


def unit(*shape: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((*shape, DIMENSION)).astype(np.float32)
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


ENROLLED = unit(SUBJECTS, EXAMPLES, seed=1)
PROBES = unit(20, seed=2) * np.float32(0.6) + np.repeat(ENROLLED[:10, 1], 2, axis=0)


@pytest.fixture
def digest(client: Client) -> str:
    return client.describe_model("pixels").model.digest


@pytest.fixture(params=RULES)
def fusion(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def people(client: Client, digest: str, fusion: Fusion) -> Iterator[str]:
    """A gallery of this rule, with ENROLLED; the third example of each was added later."""
    made = client.create_gallery(f"people by {fusion}", encoder="pixels", fusion=fusion)
    assert made.fusion == FUSIONS[fusion]
    for examples in (ENROLLED[:, :2], ENROLLED[:, 2:]):
        for i, rows in enumerate(examples):
            client.enroll(made.id, f"s{i:02}", *(encoding(row, digest) for row in rows))
    yield made.id
    client.delete_gallery(made.id)


def expected(probe: Vectors, fusion: str, enrolled: Vectors = ENROLLED) -> Scored:
    rows = [(f"s{i:02}", j, vector) for i, own in enumerate(enrolled) for j, vector in enumerate(own)]
    if fusion != "nearest":
        return by_template(rows, probe, fusion)
    distances = {f"s{i:02}": min(distance(vector, probe) for vector in own) for i, own in enumerate(enrolled)}
    return sorted(((name, d, d) for name, d in distances.items()), key=lambda one: one[1])


def test_every_answer_goes_by_the_rule(client: Client, people: str, digest: str, fusion: str) -> None:
    tau = float(np.median([expected(probe, fusion)[0][2] for probe in PROBES]))
    answer = client.identify(
        people, *(encoding(p, digest) for p in PROBES), max_candidates=3, tau=tau, all_matches=True
    )
    identified = 0
    for probe, result in zip(PROBES, answer.results, strict=True):
        ranked = expected(probe, fusion)
        assert [(c.subject_id, c.distance) for c in result.candidates] == [one[:2] for one in ranked[:3]]
        scores = [c.score if c.HasField("score") else c.distance for c in result.candidates]
        assert scores == pytest.approx([one[2] for one in ranked[:3]], rel=1e-9)
        assert all(c.HasField("score") == (fusion == "margin") for c in result.candidates)
        assert all(bool(c.encoding_id) == (fusion == "nearest") for c in result.candidates)
        assert [c.subject_id for c in result.matches] == [name for name, _, score in ranked if score <= tau]
        assert result.subject_id == (ranked[0][0] if ranked[0][2] <= tau else "")
        identified += bool(result.subject_id)
    assert 0 < identified < len(PROBES)
    for name, own, score in expected(PROBES[0], fusion):
        verified = client.verify(people, name, encoding(PROBES[0], digest), tau=tau)
        assert (verified.distance, verified.same) == (own, score <= tau)
        assert verified.HasField("score") == (fusion == "margin")


def test_the_rule_can_be_changed_and_changed_back(client: Client, people: str, digest: str, fusion: str) -> None:
    probe = encoding(PROBES[0], digest)
    for other in RULES:
        client.set_threshold(people, 0.25)
        before = client.get_gallery(people)
        changed = client.set_fusion(people, other)
        assert changed.fusion == FUSIONS[other]
        if before.fusion == changed.fusion:
            assert changed == before
        elif other == "margin":
            assert not changed.HasField("threshold")
        else:
            assert changed.threshold.source == THRESHOLD_SOURCE_MODEL
        found = client.identify(people, probe, tau=1.0, max_candidates=SUBJECTS).results[0].candidates
        assert [(c.subject_id, c.distance) for c in found] == [one[:2] for one in expected(PROBES[0], other)]
    assert [version.HasField("threshold") for version in client.list_thresholds(people)].count(False) >= 2


def test_by_margin_to_delete_a_subject_changes_the_scores_of_others(client: Client, digest: str) -> None:
    client.create_gallery("margin", encoder="pixels", fusion="margin")
    for i, rows in enumerate(ENROLLED):
        client.enroll("margin", f"s{i:02}", *(encoding(row, digest) for row in rows))
    for left in (SUBJECTS, 7, 6, 3, 2, 1):
        for i in range(left, SUBJECTS):
            if f"s{i:02}" in {subject.id for subject in client.list_subjects("margin")}:
                client.delete_subject("margin", f"s{i:02}")
        found = client.identify("margin", encoding(PROBES[3], digest), tau=0.0, max_candidates=SUBJECTS)
        near = found.results[0].candidates
        scores = [c.score if c.HasField("score") else c.distance for c in near]
        ranked = expected(PROBES[3], "margin", ENROLLED[:left])
        assert [c.subject_id for c in near] == [name for name, _, _ in ranked]
        assert scores == pytest.approx([score for _, _, score in ranked], rel=1e-9)
    client.delete_gallery("margin")


def test_a_tau_for_distances_is_none_for_scores_by_margin(client: Client, digest: str) -> None:
    client.create_gallery("g", encoder="pixels", fusion="margin")
    for i, rows in enumerate(ENROLLED):
        client.enroll("g", f"s{i:02}", *(encoding(row, digest) for row in rows))
    probe = encoding(PROBES[0], digest)
    for ask in (lambda: client.identify("g", probe), lambda: client.verify("g", "s00", probe)):
        with pytest.raises(OneglanceError) as caught:
            ask()
        assert caught.value.reason == "THRESHOLD_MISSING"
    # Two examples are compared by their distance, which the model's tau is for.
    assert client.compare(probe, probe, gallery_id="g").threshold.source == THRESHOLD_SOURCE_MODEL
    others = unit(100, seed=3)
    fitted = client.calibrate("g", (stranger(encoding(row, digest)) for row in others), target_fpir=0.05)
    lowest = sorted(expected(row, "margin")[0][2] for row in others)
    assert fitted.calibration.fusion == FUSION_MARGIN
    assert sum(score <= fitted.threshold.tau for score in lowest) == 5
    assert fitted.threshold.expected_fpir == pytest.approx(0.05)
    assert client.set_threshold("g", -0.5).tau == -0.5
    cleared = client.set_fusion("g", "mean")
    assert cleared.threshold.source == THRESHOLD_SOURCE_MODEL
    with pytest.raises(OneglanceError) as caught:
        client.set_threshold("g", -0.5)
    assert caught.value.reason == "TAU_INVALID"
    client.delete_gallery("g")


def test_a_calibration_for_a_rule_that_was_changed_meanwhile_is_void(client: Client, digest: str, gallery: str) -> None:
    client.enroll(gallery, "s", encoding(ENROLLED[0, 0], digest))

    def probes(rule: FusionName) -> Iterator[CalibrationProbe]:
        for row in unit(20, seed=4):
            yield stranger(encoding(row, digest))
        client.set_fusion(gallery, rule)

    # A probe that is searched just while the rule changes ends the calibration with INDEX_REBUILDING.
    for rule in itertools.cycle(get_args(Fusion)):
        if client.get_gallery(gallery).fusion == FUSIONS[rule]:
            continue
        with pytest.raises(OneglanceError) as caught:
            client.calibrate(gallery, probes(rule), target_fpir=0.1)
        assert caught.value.reason in ("FUSION_CHANGED", "INDEX_REBUILDING")
        if caught.value.reason == "FUSION_CHANGED":
            break
    assert not client.get_gallery(gallery).threshold.set_time.seconds


def changing(server: Server, gallery: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, during which the rule of fusion is changed to ``nearest``."""

    async def called(*args: Any, **kwargs: Any) -> Any:
        found = await call(*args, **kwargs)
        await server._gate.services.galleries.set_fusion(Call(Caller("a")), gallery, "nearest")
        return found

    return called


@pytest.mark.parametrize("of_gallery", [True, False], ids=["its own tau", "a request's tau"])
def test_no_tau_is_held_against_scores_by_another_rule(
    server: Server, client: Client, digest: str, gallery: str, monkeypatch: pytest.MonkeyPatch, of_gallery: bool
) -> None:
    """The rule is changed after tau was looked up, and before the search."""
    client.enroll(gallery, "s", *(encoding(row, digest) for row in ENROLLED[0]))
    probe = encoding(PROBES[0], digest)
    tau = None if of_gallery else 0.5
    for ask in (
        lambda: client.identify(gallery, probe, tau=tau),
        lambda: client.identify(gallery, probe, tau=tau, all_matches=True),
        lambda: client.verify(gallery, "s", probe, tau=tau),
        lambda: client.calibrate(gallery, [stranger(probe)] * 2, target_fpir=0.5),
    ):
        client.set_fusion(gallery, "mean")
        with monkeypatch.context() as patched:
            patched.setattr(Encoding, "encode", changing(server, gallery, Encoding.encode))
            with pytest.raises(OneglanceError) as caught:
                ask()
        assert caught.value.reason == "FUSION_CHANGED"
        ask()


def test_no_look_alikes_are_found_by_another_rule(
    server: Server, client: Client, digest: str, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        client.enroll(gallery, name, encoding(ENROLLED[0, 0], digest))
    with monkeypatch.context() as patched:
        patched.setattr(Threads, "run", changing(server, gallery, Threads.run))
        with pytest.raises(OneglanceError) as caught:
            client.list_look_alikes(gallery)
    assert caught.value.reason == "FUSION_CHANGED"
    assert len(client.list_look_alikes(gallery).pairs) == 1


def test_a_new_gallery_goes_by_mean(client: Client, gallery: str) -> None:
    assert client.get_gallery(gallery).fusion == FUSION_MEAN


def test_an_unknown_rule_is_refused(client: Client, gallery: str) -> None:
    for value in (0, 99):
        request = SetFusionRequest(gallery_id=gallery, fusion=value)  # type: ignore[arg-type]
        with pytest.raises(OneglanceError) as caught:
            client._call(client._galleries.SetFusion, request)
        assert caught.value.field_violations[0][0] == "fusion"


def test_the_command_line_has_it(server: Server, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--server", server.address]
    assert main(["create-gallery", "cli", "--encoder", "pixels", "--fusion", "nearest", *at]) == 0
    assert "by nearest" in capsys.readouterr().out
    assert client.get_gallery("cli").fusion == FUSION_NEAREST
    assert main(["set-fusion", "cli", "margin", *at]) == 0
    assert "by margin, tau not set" in capsys.readouterr().out
    client.delete_gallery("cli")
