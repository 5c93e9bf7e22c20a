"""A gallery that moves to another encoder is filled by a map, on a real server: what that costs is measured first, and
told in each answer until the subjects are enrolled again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance import Client, FailedPreconditionError, NotFoundError
from oneglance.v1.mapping_pb2 import FillByMapResponse
from oneglance.v1.moving_pb2 import ExportGalleryRequest, ExportSettings
from oneglance_apps.cli.main import main
from oneglance_server.app import Server
from oneglance_server.service.mapping import LEAST_FITTED, LEAST_MEASURED
from tests.models import SIDE, pixels_model
from tests.pictures import picture, png
from tests.running import measured, server_thread
from tests.server.test_succession import small_model
from tests.waiting import until

LEFT = 5
PAIRED = LEAST_FITTED + LEAST_MEASURED
TAU = 20_000.0


def example(subject: int, number: int) -> bytes:
    """Those of one subject are nearly alike."""
    noise = np.random.default_rng((subject, number)).integers(-12, 13, (SIDE, SIDE, 1))
    values = picture(subject).astype(np.int64) + noise
    return png(np.clip(values, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mapped")
    models = (pixels_model(folder / "pixels"), small_model(folder / "small"))
    with server_thread(data_dir=folder / "data", models=models) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def moving(client: Client) -> Iterator[str]:
    """ "g", which moves to "s": a few subjects are left."""
    client.create_gallery("g", encoder="pixels", quality_policy="off", doubt_policy="off")
    client.set_threshold("g", 0.05)
    for i in range(LEFT):
        client.enroll("g", f"left{i}", example(i, 0), labels={"n": str(i)})
    client.start_move("g", "s", "small")
    client.set_threshold("s", TAU)
    yield "g"
    for one in list(client.list_galleries()):
        if one.id in ("g", "s"):
            with suppress(NotFoundError):  # it went with the other
                client.delete_gallery(one.id)


def enroll_pairs(client: Client, count: int = PAIRED, examples: int = 2) -> None:
    for i in range(count):
        client.enroll("g", f"both{i}", *(example(1000 + i, number) for number in range(examples)))


def filled(client: Client, **options: Any) -> list[FillByMapResponse]:
    return list(client.fill_by_map("g", **options))


def nearest(client: Client, gallery_id: str, subject: int) -> tuple[str, bool, bool]:
    """Of another example of a subject: who it is, whether by mapped encodings, and whether the answer tells of any."""
    answer = client.identify(gallery_id, example(subject, 1))
    (result,) = answer.results
    return result.subject_id, result.candidates[0].mapped, answer.provenance.HasField("mapped")


def test_too_few_pairs_to_fit_or_to_measure_are_told(client: Client, moving: str) -> None:
    with pytest.raises(FailedPreconditionError) as none:
        filled(client)
    assert none.value.reason == "PAIRS_MISSING"
    least = {"subjects_least": str(PAIRED), "with_two_least": str(2 * LEAST_MEASURED)}
    assert none.value.metadata == {"subjects": "0", "with_two": "0", **least}
    enroll_pairs(client, 3)
    enroll_pairs(client, 2, examples=1)  # they have a third one
    for i in range(LEFT):
        client.enroll("s", f"left{i}", example(i, 1))  # another picture: that is no pair
    with pytest.raises(FailedPreconditionError) as few:
        filled(client, dry_run=True)
    assert few.value.metadata == {"subjects": "3", "with_two": "3", **least}


def test_what_it_needs_is_told(server: Server, client: Client, moving: str) -> None:
    client.set_threshold("s", None)
    with pytest.raises(FailedPreconditionError) as no_tau:
        filled(client)
    assert (no_tau.value.reason, no_tau.value.metadata["gallery_id"]) == ("THRESHOLD_MISSING", "s")
    client.set_threshold("s", TAU)
    client.cut_over("g", leave=True)
    with pytest.raises(FailedPreconditionError) as cut_over:
        filled(client)
    assert cut_over.value.reason == "MOVE_CONFLICT"
    client.end_move("g")
    with pytest.raises(FailedPreconditionError) as over:
        filled(client)
    assert over.value.reason == "NOT_MOVING"
    with pytest.raises(NotFoundError):
        list(client.fill_by_map("nowhere"))


def test_whoever_is_left_is_mapped_and_told_so_until_enrolled_again(
    server: Server, client: Client, moving: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll_pairs(client)
    (dry,) = filled(client, dry_run=True)
    loss = dry.loss
    assert (loss.fitted_subject_count, loss.fitted_pair_count) == (LEAST_FITTED, 2 * LEAST_FITTED)
    assert (loss.measured_subject_count, loss.probe_count, loss.tau) == (LEAST_MEASURED, LEAST_MEASURED, TAU)
    assert loss.fnir == loss.missed_count / loss.probe_count
    assert loss.true_fnir == loss.true_missed_count / loss.probe_count
    assert loss.true_missed_count <= loss.missed_count < loss.probe_count / 2
    assert (dry.subject_count, dry.finished) == (LEFT, False)
    assert not client.get_gallery("s").HasField("mapped")
    assert nearest(client, "s", 0)[1:] == (False, False)

    assert main(["fill-by-map", "g", "--server", server.address]) == 0
    said = capsys.readouterr().out
    assert f"{loss.fnir:.2%} with mapped encodings, {loss.true_fnir:.2%} with true ones" in said
    assert f"{LEFT} subjects mapped" in said
    told = client.get_gallery("s").mapped
    assert (told.subject_count, told.outdated_count, told.loss) == (LEFT, 0, loss)
    assert [nearest(client, "s", i) for i in range(LEFT)] == [(f"left{i}", True, True) for i in range(LEFT)]
    assert nearest(client, "s", 1000) == ("both0", False, True), "the gallery has others that are mapped"
    verified = client.verify("s", "left1", example(1, 1))
    assert (verified.same, verified.mapped, verified.provenance.mapped.loss) == (True, True, loss)
    assert dict(client.get_subject("s", "left2").labels) == {"n": "2"}
    assert client.get_subject("s", "left2").mapped
    assert not client.get_subject("s", "both2").mapped
    left = [(one.subject_id, one.lacks_negatives, one.mapped) for one in client.list_left("g")]
    assert left == [(f"left{i}", False, True) for i in range(LEFT)]
    assert (client.get_move("g").left_count, client.get_move("g").mapped_count) == (0, LEFT)
    until(lambda: measured(server, "oneglance_gallery_mapped_subjects", gallery="s") == LEFT)
    assert measured(server, "oneglance_gallery_mapped_subjects", gallery="g") == 0

    assert client.cut_over("g").mapped.subject_count == LEFT
    assert [nearest(client, "g", i)[:2] for i in range(LEFT)] == [(f"left{i}", True) for i in range(LEFT)]
    with pytest.raises(FailedPreconditionError) as refused:
        list(client.export_gallery(iter([ExportGalleryRequest(settings=ExportSettings(gallery_id="g"))])))
    assert refused.value.reason == "HOLDS_MAPPED"
    client.enroll("g", "left0", example(0, 2))
    assert nearest(client, "g", 0) == ("left0", False, True)
    assert client.enroll("g", "left1", example(1, 2)).provenance.mapped.subject_count == LEFT - 1, "as it came"
    (tmp_path / "probe.png").write_bytes(example(2, 1))
    main(["identify", "g", str(tmp_path / "probe.png"), "--server", server.address])
    said = capsys.readouterr().out
    assert "left2" in said
    assert "(mapped)" in said
    assert f"MAPPED: {LEFT - 2} subjects" in said
    client.roll_back("g")
    assert nearest(client, "g", 3) == ("left3", False, False)
    for i in range(2, LEFT):
        client.enroll("s", f"left{i}", example(i, 3), on_existing="fail")
    assert not client.get_gallery("s").HasField("mapped")
    assert nearest(client, "s", 4) == ("left4", False, False)
    assert len(client.get_subject("s", "left4").encodings) == 1
    assert filled(client)[-1].mapped_count == 0


def test_what_an_earlier_map_made_is_made_anew(client: Client, moving: str) -> None:
    enroll_pairs(client)
    assert filled(client)[-1].mapped_count == LEFT
    assert filled(client)[-1].mapped_count == 0, "the same map"
    client.enroll("g", "more", example(5000, 0), example(5000, 1))
    answers = filled(client)
    assert (answers[0].subject_count, answers[-1].mapped_count, answers[-1].finished) == (LEFT, LEFT, True)
    told = client.get_gallery("s").mapped
    assert (told.subject_count, told.outdated_count, told.loss) == (LEFT, 0, answers[0].loss)
