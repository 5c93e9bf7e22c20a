"""Drift is watched: what is counted, when it is suspected, what is said, and that it is forgotten."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance import Client, encoding, identify_request, stranger
from oneglance.v1.common_pb2 import Encoding
from oneglance.v1.gallery_pb2 import (
    DRIFT_OF_MATES,
    DRIFT_OF_STRANGERS,
    DRIFT_STATE_NONE,
    DRIFT_STATE_NOT_WATCHED,
    DRIFT_STATE_SUSPECTED,
    DriftOf,
    DriftWatch,
)
from oneglance_apps.cli import main
from oneglance_core.drift import FAR, NEAR, OTHERS, WINDOW
from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.fusion import FUSIONS
from oneglance_core.manifests import FalsePositives, Galleries, MateScores, MatesOfSize
from oneglance_server.app import Server
from oneglance_server.calls import Call, Caller
from oneglance_server.service import drift
from oneglance_server.service.identification import IdentificationService
from tests.models import pixels_model
from tests.running import measured, server_thread
from tests.waiting import PATIENCE_SECONDS

LEVELS = (0.001, 0.005, 0.01, 0.05, *(round(0.1 * i, 1) for i in range(1, 10)))
SIZES = (1, 2, 10)
MOST = 2.0  # a stranger's score is uniform in [0, MOST]
SHARES = tuple(round(0.1 * i, 1) for i in range(1, 10))
FALSE_POSITIVES = FalsePositives(
    data="made up",
    method="",
    people=1000,
    levels=LEVELS,
    lows=LEVELS,
    highs=LEVELS,
    galleries=tuple(
        Galleries(fusion=fusion, examples=1, gallery_size=size, taus=tuple(MOST * level for level in LEVELS))
        for fusion in FUSIONS
        for size in SIZES
    ),
)
MATES = MateScores(
    data="made up",
    people=1000,
    shares=SHARES,
    galleries=tuple(
        MatesOfSize(fusion=fusion, examples=1, gallery_size=size, scores=tuple(MOST * NEAR * one for one in SHARES))
        for fusion in FUSIONS
        for size in SIZES
    ),
)


class Lines:
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, Any]] = []

    def warning(self, event: str, **values: object) -> None:
        self.warnings.append({"event": event, **values})


FAR_FROM, NEAR_TO = MOST * FAR, MOST * NEAR


def with_changes(model: Path, changes: dict[str, object], to: Path) -> Path:
    """The model with another manifest."""
    folder = read_model_folder(model)
    return write_model_folder(to, folder.manifest.model_copy(update=changes), folder.model)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("drift")
    plain = pixels_model(folder / "plain", tau=None)
    model = with_changes(plain, {"false_positives": FALSE_POSITIVES, "mates": MATES}, folder / "measured")
    with server_thread(data_dir=folder / "data", models=(model,)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as connected:
        yield connected


def at(distance: float, digest: str) -> Encoding:
    """A unit vector at that squared L2 from the one that is enrolled."""
    values = np.zeros(64)
    values[0] = 1 - distance / 2
    values[1] = math.sqrt(max(0.0, 1 - values[0] ** 2))
    return encoding(values, digest)


def make(client: Client, gallery: str) -> str:
    """A gallery of one subject; the encoder's digest."""
    digest = client.create_gallery(gallery).encoder_digest
    client.enroll(gallery, "it", at(0.0, digest))
    return digest


def show(client: Client, gallery: str, digest: str, distances: Sequence[float]) -> None:
    for start in range(0, len(distances), 100):
        client.identify(gallery, *(at(one, digest) for one in distances[start : start + 100]), max_candidates=1)


def watches(client: Client, gallery: str) -> dict[int, DriftWatch]:
    drift = client.get_gallery(gallery).drift
    assert drift.state == max(one.state for one in drift.watches)
    return {one.of: one for one in drift.watches}


def as_calibrated(kind: str, count: int, seed: int = 0) -> list[float]:
    low, high = (FAR_FROM * 1.05, MOST) if kind == "strangers" else (0.0, NEAR_TO * 0.95)
    found: list[float] = np.random.default_rng(seed).uniform(low, high, count).tolist()
    return found


def test_probes_like_the_calibrations_raise_no_suspicion(client: Client, server: Server) -> None:
    digest = make(client, "alike")
    assert {of: one.state for of, one in watches(client, "alike").items()} == {
        DRIFT_OF_STRANGERS: DRIFT_STATE_NONE,
        DRIFT_OF_MATES: DRIFT_STATE_NONE,
    }
    show(client, "alike", digest, as_calibrated("strangers", 600) + as_calibrated("mates", 500))
    found = watches(client, "alike")
    assert (found[DRIFT_OF_STRANGERS].probes, found[DRIFT_OF_MATES].probes) == (600, 500)
    for one in found.values():
        assert (one.state, one.advice, one.HasField("since")) == (DRIFT_STATE_NONE, "", False)
    for of in ("strangers", "mates"):
        assert server._metrics.registry.get_sample_value("oneglance_gallery_drift", {"gallery": "alike", "of": of}) == 0


@pytest.mark.parametrize(
    ("kind", "of", "low", "high", "says"),
    [
        ("strangers", DRIFT_OF_STRANGERS, FAR_FROM * 1.01, 0.8, "Strangers are nearer"),
        ("strangers", DRIFT_OF_STRANGERS, 1.7, 2.0, "Strangers are farther"),
        ("mates", DRIFT_OF_MATES, NEAR_TO * 0.8, NEAR_TO * 0.99, "Subjects are farther"),
        ("mates", DRIFT_OF_MATES, 0.0, NEAR_TO * 0.1, "Subjects are nearer"),
    ],
)
def test_others_do_and_it_is_said_what_to_do(
    client: Client,
    server: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    of: DriftOf.ValueType,
    low: float,
    high: float,
    says: str,
) -> None:
    gallery = f"{says} ({low})"
    digest = make(client, gallery)
    lines = Lines()
    monkeypatch.setattr(drift, "log", lines)
    show(client, gallery, digest, np.random.default_rng(1).uniform(low, high, 200).tolist())
    found = watches(client, gallery)[of]
    assert found.state == DRIFT_STATE_SUSPECTED
    assert found.advice.startswith(says)
    assert found.since.seconds > 0
    label = {"gallery": gallery, "of": kind}
    assert measured(server, "oneglance_gallery_drift", **label) == 1
    (told,) = lines.warnings
    assert (told["event"], told["gallery"], told["of"]) == ("drift suspected", gallery, kind)
    assert told["advice"].startswith(says)
    assert main(["get-gallery", "--server", server.address, gallery]) == 0
    out = capsys.readouterr().out
    assert "drift: suspected\n  drift suspected since 20" in out
    assert says in out
    client.delete_gallery(gallery)
    assert server._metrics.registry.get_sample_value("oneglance_gallery_drift", label) is None
    make(client, gallery)
    assert watches(client, gallery)[of].state == DRIFT_STATE_NONE


def test_it_passes_after_a_window_of_probes_as_calibrated(client: Client, server: Server) -> None:
    digest = make(client, "passes")
    show(client, "passes", digest, [0.5] * 100)
    first = watches(client, "passes")[DRIFT_OF_STRANGERS]
    assert first.state == DRIFT_STATE_SUSPECTED
    show(client, "passes", digest, as_calibrated("strangers", WINDOW - 100))
    still = watches(client, "passes")[DRIFT_OF_STRANGERS]
    assert (still.state, still.since) == (DRIFT_STATE_SUSPECTED, first.since)
    show(client, "passes", digest, as_calibrated("strangers", WINDOW, 1))
    assert watches(client, "passes")[DRIFT_OF_STRANGERS].state == DRIFT_STATE_NONE
    assert (
        server._metrics.registry.get_sample_value("oneglance_gallery_drift", {"gallery": "passes", "of": "strangers"})
        == 0
    )


def test_a_calibration_on_todays_strangers_ends_it(client: Client) -> None:
    digest = make(client, "calibrated")
    today = np.random.default_rng(2).uniform(0.45, 0.6, 300).tolist()
    show(client, "calibrated", digest, today)
    assert watches(client, "calibrated")[DRIFT_OF_STRANGERS].state == DRIFT_STATE_SUSPECTED
    client.calibrate("calibrated", (stranger(at(one, digest)) for one in today))
    assert watches(client, "calibrated")[DRIFT_OF_STRANGERS].state == DRIFT_STATE_NONE
    show(client, "calibrated", digest, np.random.default_rng(3).uniform(0.45, 0.6, 300).tolist())
    found = watches(client, "calibrated")[DRIFT_OF_STRANGERS]
    assert found.state == DRIFT_STATE_NONE
    assert found.probes > 200
    show(client, "calibrated", digest, as_calibrated("strangers", 300))  # of yesterday
    assert watches(client, "calibrated")[DRIFT_OF_STRANGERS].state == DRIFT_STATE_SUSPECTED


def test_few_far_probes_among_many_near_ones_are_not_judged(client: Client) -> None:
    """They may be missed mates rather than strangers."""
    digest = make(client, "few")
    show(client, "few", digest, as_calibrated("mates", int(61 / OTHERS)) + [0.5] * 60)
    assert watches(client, "few")[DRIFT_OF_STRANGERS].state == DRIFT_STATE_NONE
    show(client, "few", digest, [0.5] * 20)
    assert watches(client, "few")[DRIFT_OF_STRANGERS].state == DRIFT_STATE_SUSPECTED


def test_frames_that_show_the_same_person_count_once(client: Client) -> None:
    digest = make(client, "frames")
    client.set_threshold("frames", 0.1)
    client.enroll("frames", "else", encoding(-np.eye(64)[0], digest))
    frames = [identify_request("frames", [at(0.5, digest)]) for _ in range(50)]
    assert len(list(client.identify_stream(iter(frames)))) == 50
    assert watches(client, "frames")[DRIFT_OF_STRANGERS].probes == 1
    bulk = identify_request("frames", [at(0.5, digest)] * 5)
    list(client.identify_stream(iter([bulk, bulk])))
    assert watches(client, "frames")[DRIFT_OF_STRANGERS].probes == 11
    show(client, "frames", digest, [0.5] * 5)
    assert watches(client, "frames")[DRIFT_OF_STRANGERS].probes == 16


def test_it_begins_anew_when_the_gallery_has_outgrown_it(client: Client) -> None:
    digest = make(client, "grows")
    show(client, "grows", digest, [0.5] * 12 + [1.0] * 11)
    for i in range(3):
        client.enroll("grows", f"far {i}", encoding(-np.eye(64)[0], digest))
    show(client, "grows", digest, [0.5] * 3)
    assert watches(client, "grows")[DRIFT_OF_STRANGERS].probes == 3


def test_a_gallery_deleted_while_its_probe_is_searched_is_watched_no_more(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = make(client, "gone")
    galleries, search = server._gate.services.galleries, IdentificationService.search

    async def searched_and_deleted(self: IdentificationService, *args: Any) -> Any:
        found = await search(self, *args)
        await galleries.delete(Call(Caller("a")), "gone")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(IdentificationService, "search", searched_and_deleted)
        show(client, "gone", digest, [0.5])
    assert "gone" not in galleries._drift._watches
    label = {"gallery": "gone", "of": "strangers"}
    assert server._metrics.registry.get_sample_value("oneglance_gallery_drift", label) is None


def test_where_nothing_was_measured_nothing_is_watched(tmp_path: Path) -> None:
    plain = pixels_model(tmp_path / "plain", tau=None)
    other = pixels_model(tmp_path / "other", name="half", tau=None, resize="bilinear")
    half = with_changes(other, {"false_positives": FALSE_POSITIVES}, tmp_path / "half")
    with (
        server_thread(data_dir=tmp_path / "data", models=(plain, half)) as server,
        Client(server.address) as client,
    ):
        states = {}
        for name in ("pixels", "half"):
            digest = client.create_gallery(name, encoder=name).encoder_digest
            for _ in range(2):
                states[name] = [one.state for one in client.get_gallery(name).drift.watches]
                client.enroll(name, "it", at(0.0, digest))
                client.identify(name, at(1.0, digest), tau=0.1)
                assert [one.state for one in client.get_gallery(name).drift.watches] == states[name]
    assert states == {
        "pixels": [DRIFT_STATE_NOT_WATCHED, DRIFT_STATE_NOT_WATCHED],
        "half": [DRIFT_STATE_NONE, DRIFT_STATE_NOT_WATCHED],
    }
