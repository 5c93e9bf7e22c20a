"""Probabilities of a pair head through a real server: told beside distances, and deciding in their place."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from oneglance import Client, OneglanceError, encoding, mate, stranger
from oneglance.v1.common_pb2 import (
    DECIDED_BY_DISTANCE,
    DECIDED_BY_PROBABILITY,
    THRESHOLD_SOURCE_CALIBRATION,
    THRESHOLD_SOURCE_MODEL,
)
from oneglance.v1.gallery_pb2 import CalibrationProbe, CreateGalleryRequest, SetDecidedByRequest
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, DECISION_UNKNOWN
from oneglance_apps.cli import main
from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.fusion import template
from oneglance_core.manifests import Array, FalsePositives, Galleries, Reliability, ReliabilityBin
from oneglance_core.pair_head import FORMS, PairHead
from oneglance_server.app import Server
from oneglance_server.errors import StartupError
from tests.models import SIDE, calibration, pixels, pixels_model
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

Vectors = npt.NDArray[np.float32]
Act = Callable[[], object]
SUBJECTS, EXAMPLES = 8, 3
WEIGHTS = -np.abs(np.random.default_rng(0).standard_normal(SIDE * SIDE)) * 2
WEIGHTS[::4] *= -1  # so that the nearest isn't always the likeliest
HEADS = {form: PairHead(form, WEIGHTS.astype(np.float32).astype(np.float64), 0.75) for form in FORMS}
ENROLLED = np.stack([[picture(100 * i + j) for j in range(EXAMPLES)] for i in range(SUBJECTS)])
PROBES = [picture(10_000 + i) for i in range(6)]


def by_hand(form: str, first: Vectors, second: Vectors) -> float:
    a, b = first.astype(np.float64), second.astype(np.float64)
    if form == "difference":
        terms = np.abs(a - b)
    else:
        terms = np.divide((a - b) ** 2, a + b, out=np.zeros_like(a), where=a + b > 0)
    return float(1 / (1 + np.exp(-(terms @ HEADS[form].weights + HEADS[form].bias))))  # type: ignore[index]


def measured_of_head() -> dict[str, object]:
    taus = tuple(np.linspace(0.05, 0.95, 4).tolist())
    levels = (0.001, 0.01, 0.1, 0.5)
    galleries = tuple(
        Galleries(fusion=fusion, examples=1, gallery_size=size, taus=taus)
        for fusion in ("nearest", "mean")
        for size in (1, 10)
    )
    found = FalsePositives(
        *(), data="none", method="by hand", people=100, levels=levels, lows=levels, highs=levels, galleries=galleries
    )
    bins = (ReliabilityBin(low=0.9, high=1, pairs=10, predicted=0.95, mated=0.93),)
    told = {"mated_pairs": 5, "non_mated_pairs": 5, "error": 0.02, "log_loss": 0.1, "slope": 1, "offset": 0}
    reliability = Reliability(data="held-out drawings", method="by hand", bins=bins, **told)
    threshold = calibration(0.25).model_copy(update={"decided_by": "probability", "fmr_curve": ()})
    return {"threshold": threshold, "false_positives": found, "reliability": reliability}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("models")
    return (
        pixels_model(folder / "plain", name="plain"),
        *(pixels_model(folder / form, name=form, head=HEADS[form]) for form in FORMS),
        pixels_model(folder / "measured", name="measured", head=HEADS["difference"], head_part=measured_of_head()),
    )


@pytest.fixture(scope="module")
def server(models: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_thread(data_dir=tmp_path_factory.mktemp("data"), models=models[:3]) as running:
        yield running


def enroll(client: Client, gallery: str) -> None:
    for i, own in enumerate(ENROLLED):
        client.enroll(gallery, f"s{i}", *map(png, own), doubt_policy="off")


@pytest.fixture(params=[(form, fusion) for form in FORMS for fusion in ("nearest", "mean")], ids="-".join)
def people(client: Client, request: pytest.FixtureRequest) -> Iterator[tuple[str, str, str]]:
    """A gallery with ENROLLED, of an encoder with this head, by this rule: (id, form, rule)."""
    form, fusion = request.param
    client.create_gallery("people", encoder=form, fusion=fusion)
    enroll(client, "people")
    yield "people", form, fusion
    client.delete_gallery("people")


def served(client: Client, encoder: str, image: npt.NDArray[np.uint8]) -> Vectors:
    return np.array(client.encode(png(image), encoder=encoder).encodings[0].values, np.float32)


def compared(own: Vectors, probe: Vectors, form: str, fusion: str, by_probability: bool) -> Vectors:
    """What a probe is compared with of a subject with encodings [n, D]."""
    if fusion == "mean":
        return template(own)
    likely = [by_hand(form, one, probe) for one in own]
    distances = ((own.astype(np.float64) - probe) ** 2).sum(axis=1)
    chosen: Vectors = own[int(np.argmax(likely) if by_probability else np.argmin(distances))]
    return chosen


def test_verify_tells_the_probability_of_what_was_compared(client: Client, people: tuple[str, str, str]) -> None:
    gallery, form, fusion = people
    encodings = np.array([[served(client, form, one) for one in own] for own in ENROLLED[:3]])
    for by_probability in (False, True):
        client.set_decided_by(gallery, "probability" if by_probability else "distance")
        for image in PROBES[:3]:
            probe = served(client, form, image)
            for i, own in enumerate(encodings):
                answer = client.verify(gallery, f"s{i}", png(image), tau=0.5)
                expected = by_hand(form, compared(own, probe, form, fusion, by_probability), probe)
                assert answer.probability == pytest.approx(expected, abs=1e-5)
                if by_probability:
                    assert answer.score == pytest.approx(1 - expected, abs=1e-5)
                    assert answer.same == (answer.probability >= 0.5)
                else:
                    assert not answer.HasField("score")
                    assert answer.same == (answer.distance <= 0.5)


def test_identify_tells_it_of_every_candidate_and_by_probability_the_likeliest_is_first(
    client: Client, people: tuple[str, str, str]
) -> None:
    gallery, form, fusion = people
    rows = pixels(ENROLLED.reshape(-1, SIDE, SIDE, 1)).reshape(SUBJECTS, EXAMPLES, -1)
    orders = []
    for by_probability in (False, True):
        client.set_decided_by(gallery, "probability" if by_probability else "distance")
        answer = client.identify(gallery, *map(png, PROBES), max_candidates=SUBJECTS, tau=0.3, all_matches=True)
        assert answer.provenance.exact
        for image, result in zip(PROBES, answer.results, strict=True):
            probe = pixels(image[None])[0]
            likely = {
                f"s{i}": by_hand(form, compared(own, probe, form, fusion, by_probability), probe)
                for i, own in enumerate(rows)
            }
            assert len(result.candidates) == SUBJECTS
            for one in result.candidates:
                assert one.probability == pytest.approx(likely[one.subject_id], abs=1e-5)
            order = [one.subject_id for one in result.candidates]
            orders.append(order)
            if by_probability:
                assert order == sorted(likely, key=lambda name: -likely[name])
                under = [name for name in order if 1 - likely[name] <= 0.3]
                assert [one.subject_id for one in result.matches] == under
                assert result.decision == (DECISION_IDENTIFIED if under else DECISION_UNKNOWN)
    assert orders[: len(PROBES)] != orders[len(PROBES) :]


@pytest.mark.parametrize("form", FORMS)
def test_two_examples_are_told_the_probability_and_by_the_gallery_it_decides(client: Client, form: str) -> None:
    client.create_gallery("pair", encoder=form, decided_by="probability")
    expected = by_hand(form, served(client, form, PROBES[0]), served(client, form, PROBES[1]))
    one, other = png(PROBES[0]), png(PROBES[1])
    by_distance = client.compare(one, other, encoder=form, tau=0.5)
    assert by_distance.probability == pytest.approx(expected, abs=1e-5)
    assert by_distance.same == (by_distance.distance <= 0.5)
    for tau in (1 - expected + 1e-4, 1 - expected - 1e-4):
        decided = client.compare(one, other, gallery_id="pair", tau=tau)
        assert decided.score == pytest.approx(1 - expected, abs=1e-5)
        assert decided.same == (decided.score <= tau)
    client.delete_gallery("pair")


def test_an_encoder_without_a_head_tells_none_and_can_not_decide_by_it(client: Client) -> None:
    client.create_gallery("plain", encoder="plain")
    client.enroll("plain", "s", png(PROBES[0]))
    assert not client.verify("plain", "s", png(PROBES[1])).HasField("probability")
    assert not client.compare(png(PROBES[0]), png(PROBES[1]), encoder="plain").HasField("probability")
    (result,) = client.identify("plain", png(PROBES[1])).results
    assert not result.candidates[0].HasField("probability")
    acts: list[Act] = [
        lambda: client.create_gallery("new", encoder="plain", decided_by="probability"),
        lambda: client.set_decided_by("plain", "probability"),
    ]
    for act in acts:
        with pytest.raises(OneglanceError) as refused:
            act()
        assert (refused.value.code.name, refused.value.reason) == ("INVALID_ARGUMENT", "PAIR_HEAD_MISSING")
        assert refused.value.field_violations[0][0] == "decided_by"
    assert client.set_decided_by("plain", "distance").decided_by == DECIDED_BY_DISTANCE
    assert [g.id for g in client.list_galleries()] == ["plain"]
    client.delete_gallery("plain")


def test_what_decides_and_the_margin_to_others_do_not_go_together(client: Client) -> None:
    client.create_gallery("g", encoder="difference", decided_by="probability", fusion="mean")
    client.create_gallery("m", encoder="difference", fusion="margin")
    made = functools.partial(client.create_gallery, "n", encoder="difference", fusion="margin")
    acts: list[tuple[Act, str]] = [
        (lambda: client.set_fusion("g", "margin"), "fusion"),
        (lambda: client.set_decided_by("m", "probability"), "decided_by"),
        (lambda: made(decided_by="probability"), "decided_by"),
    ]
    for act, field in acts:
        with pytest.raises(OneglanceError) as refused:
            act()
        assert (refused.value.code.name, refused.value.reason) == ("INVALID_ARGUMENT", "RULES_CONFLICT")
        assert refused.value.field_violations[0][0] == field
    for gallery in ("g", "m"):
        client.delete_gallery(gallery)


def test_an_unknown_value_is_refused(client: Client) -> None:
    client.create_gallery("g", encoder="difference")
    for value in (0, 99):
        request = SetDecidedByRequest(gallery_id="g", decided_by=value)  # type: ignore[arg-type]
        with pytest.raises(OneglanceError) as refused:
            client._call(client._galleries.SetDecidedBy, request)
        assert refused.value.field_violations[0][0] == "decided_by"
    created = CreateGalleryRequest(gallery_id="h", encoder="difference", decided_by=99)  # type: ignore[arg-type]
    with pytest.raises(OneglanceError):
        client._call(client._galleries.CreateGallery, created)
    client.delete_gallery("g")


def test_a_threshold_is_for_what_decides(client: Client) -> None:
    client.create_gallery("g", encoder="difference", decided_by="probability", fusion="nearest")
    enroll(client, "g")
    with pytest.raises(OneglanceError) as missing:
        client.identify("g", png(PROBES[0]))  # the model's is for distances
    assert missing.value.reason == "THRESHOLD_MISSING"
    for tau in (-0.1, 1.5, float("nan")):
        for act in (
            lambda tau=tau: client.set_threshold("g", tau),
            lambda tau=tau: client.identify("g", png(PROBES[0]), tau=tau),
            lambda tau=tau: client.verify("g", "s0", png(PROBES[0]), tau=tau),
        ):
            with pytest.raises(OneglanceError) as refused:
                act()
            assert refused.value.reason == "TAU_INVALID"
    assert client.set_threshold("g", 0.25).tau == 0.25
    cleared = client.set_decided_by("g", "distance")
    assert (cleared.threshold.tau, cleared.threshold.source) == (0.5, THRESHOLD_SOURCE_MODEL)
    client.delete_gallery("g")


def test_a_calibration_is_of_probabilities_where_they_decide(client: Client) -> None:
    client.create_gallery("g", encoder="difference", decided_by="probability", fusion="nearest")
    enroll(client, "g")
    strangers = [stranger(png(picture(5000 + i))) for i in range(20)]
    mates = [mate(png(own[0]), f"s{i}") for i, own in enumerate(ENROLLED)]
    fitted = client.calibrate("g", iter([*strangers, *mates]), target_fpir=0.1)
    assert fitted.calibration.decided_by == DECIDED_BY_PROBABILITY
    assert fitted.threshold.source == THRESHOLD_SOURCE_CALIBRATION
    results = client.identify("g", *(probe.example for probe in strangers)).results
    let_in = sum(result.decision == DECISION_IDENTIFIED for result in results)
    assert let_in == fitted.calibration.fpir * 20 <= 2
    # Its evidence is for probabilities: after a change it counts for nothing.
    by_distance = client.set_decided_by("g", "distance")
    assert by_distance.threshold.source == THRESHOLD_SOURCE_MODEL
    assert by_distance.threshold.tau == 0.5
    (first, *_) = reversed(list(client.list_thresholds("g")))
    assert first.calibration.decided_by == DECIDED_BY_PROBABILITY
    assert not first.threshold.HasField("expected_fpir")
    client.delete_gallery("g")


def test_a_calibration_is_void_when_something_else_decides_meanwhile(client: Client) -> None:
    client.create_gallery("g", encoder="difference", decided_by="probability", fusion="nearest")
    enroll(client, "g")

    def probes() -> Iterator[CalibrationProbe]:
        for i in range(20):
            yield stranger(png(picture(5000 + i)))
        client.set_decided_by("g", "distance")

    with pytest.raises(OneglanceError) as refused:
        client.calibrate("g", probes(), target_fpir=0.1)
    assert (refused.value.code.name, refused.value.reason) == ("FAILED_PRECONDITION", "DECIDED_BY_CHANGED")
    client.delete_gallery("g")


def test_negative_values_are_no_encoding_for_chi_square(client: Client) -> None:
    for form in FORMS:
        client.create_gallery(form, encoder=form)
        digest = client.get_gallery(form).encoder_digest
        values = pixels(PROBES[0][None])[0]
        values[3] = -0.5
        given = encoding(values, digest)
        if form == "difference":
            client.enroll(form, "s", given)
        else:
            for act in (
                lambda g=given: client.enroll("chi-square", "s", g),
                lambda g=given: client.identify("chi-square", g),
            ):
                with pytest.raises(OneglanceError) as refused:
                    act()
                assert refused.value.reason == "ENCODING_INVALID"
                assert refused.value.field_violations[0][0].endswith("encoding.values")
        client.delete_gallery(form)


def test_the_command_line_has_it(server: Server, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--server", server.address]
    assert main(["create-gallery", "cli", "--encoder", "difference", "--decided-by", "probability", *at]) == 0
    assert "decided by probability" in capsys.readouterr().out
    client.enroll("cli", "s", png(PROBES[0]))
    given = encoding(pixels(PROBES[1][None])[0], client.get_gallery("cli").encoder_digest)
    told = client.verify("cli", "s", given, tau=1.0).probability
    assert main(["set-decided-by", "cli", "distance", *at]) == 0
    assert "decided by probability" not in capsys.readouterr().out
    assert main(["describe-model", "difference", *at]) == 0
    assert "pair head difference, its probabilities not measured" in capsys.readouterr().out
    assert 0 < told < 1
    client.delete_gallery("cli")


def test_tau_follows_what_was_measured_of_the_head(models: tuple[Path, ...], tmp_path: Path) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models[3:]) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        assert client.describe_model("measured").model.pair_head.calibration_error == 0.02
        made = client.create_gallery("g", decided_by="probability", fusion="nearest", target_fpir=0.1)
        # Measured for 1 and for 10 subjects alike: FPIR 0.1 is at the third of four taus.
        assert made.threshold.tau == pytest.approx(0.65)
        assert made.threshold.source == THRESHOLD_SOURCE_MODEL
        enroll(client, "g")
        known = client.get_gallery("g").threshold
        assert known.expected_fpir == pytest.approx(0.1, rel=0.05)
        assert client.verify("g", "s0", png(PROBES[0]), target_fmr=0.01).threshold.tau == pytest.approx(0.35)
        by_distance = client.set_decided_by("g", "distance").threshold
        assert by_distance.tau == 0.5  # of the model's calibration: no more was measured for distances
        assert client.set_decided_by("g", "probability").threshold.tau == pytest.approx(known.tau)


def test_where_the_encoder_is_gone_it_can_not_decide(models: tuple[Path, ...], tmp_path: Path) -> None:
    probe = pixels(PROBES[0][None])[0]
    with (
        server_thread(data_dir=tmp_path, models=models[:2]) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        for gallery, decided_by in (("d", "distance"), ("p", "probability")):
            digest = client.create_gallery(gallery, encoder="difference", decided_by=decided_by).encoder_digest  # type: ignore[arg-type]
            client.enroll(gallery, "s", encoding(probe, digest))
    with (
        server_thread(data_dir=tmp_path, models=models[:1]) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        assert client.get_gallery("p").decided_by == DECIDED_BY_PROBABILITY
        (told,) = client.identify("d", encoding(probe, digest), tau=0.5).results
        assert told.decision == DECISION_IDENTIFIED
        assert not told.candidates[0].HasField("probability")
        for act in (
            lambda: client.identify("p", encoding(probe, digest), tau=0.5),
            lambda: client.verify("p", "s", encoding(probe, digest), tau=0.5),
            lambda: client.set_decided_by("d", "probability"),
        ):
            with pytest.raises(OneglanceError) as refused:
                act()
            assert (refused.value.code.name, refused.value.reason) == ("FAILED_PRECONDITION", "ENCODER_NOT_LOADED")
        assert client.set_decided_by("p", "distance").decided_by == DECIDED_BY_DISTANCE


def test_a_model_whose_head_was_tampered_with_is_not_served(models: tuple[Path, ...], tmp_path: Path) -> None:
    folder = read_model_folder(models[1])
    assert folder.manifest.pair_head is not None
    other = folder.manifest.pair_head.model_copy(update={"weights": Array.pack(-WEIGHTS)})
    write_model_folder(tmp_path / "model", folder.manifest.model_copy(update={"pair_head": other}), folder.model)
    with (
        pytest.raises((StartupError, ValueError), match="pair_head: gives other probabilities"),
        server_thread(data_dir=tmp_path / "data", models=(tmp_path / "model",)),
    ):
        pass
