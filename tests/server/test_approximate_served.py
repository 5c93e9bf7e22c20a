"""A gallery large enough that its answers become approximate, served: what is said, found and counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance import Client, encoded_subject, encoding
from oneglance.v1.approximation_pb2 import EXACT_BECAUSE_NO_THRESHOLD_YET, ApproximationState
from oneglance.v1.identification_pb2 import IdentifyResponse
from oneglance_index.search.approximate import LEAST_ROWS
from oneglance_server.app import Server
from tests.models import pixels_model
from tests.running import measured, server_thread
from tests.waiting import until

DIMENSION, SUBJECTS, TAU = 64, LEAST_ROWS + 1000, 0.25
MATES = 0.95
Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("approximate")
    models = (pixels_model(folder / "pixels"),)
    with server_thread(data_dir=folder / "data", models=models, approximate_checked_share=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def units(vectors: NDArray[np.float64]) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def people() -> Vectors:
    """In clusters, as faces are; float32 [subjects, D]."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((200, DIMENSION))
    return units(centres[rng.integers(200, size=SUBJECTS)] + 0.7 * rng.standard_normal((SUBJECTS, DIMENSION)))


def probes_of(vectors: Vectors, seed: int) -> Vectors:
    return units(vectors + 0.03 * np.random.default_rng(seed).standard_normal(vectors.shape))


def ask(client: Client, digest: str, probes: Vectors, *, exact: bool = False) -> IdentifyResponse:
    return client.identify("many", *(encoding(probe, digest) for probe in probes), exact=exact)


def names(answer: IdentifyResponse) -> list[str]:
    return [one.subject_id for one in answer.results]


def state(client: Client) -> ApproximationState:
    return client.get_gallery("many").approximation_state


def test_answers_become_approximate_and_tell_what_they_lose(server: Server, client: Client, people: Vectors) -> None:
    (model,) = client.list_models()
    client.create_gallery("many", fusion="nearest", quality_policy="off", doubt_policy="off")
    subjects = (encoded_subject(f"s{i}", vector) for i, vector in enumerate(people))
    for outcome in client.bulk_enroll_encodings("many", subjects, encoder_digest=model.digest):
        assert not outcome.HasField("error")
    client.set_threshold("many", TAU)
    assert client.set_approximation("many", MATES).approximation_state.because == EXACT_BECAUSE_NO_THRESHOLD_YET
    rng = np.random.default_rng(2)

    def known(count: int) -> tuple[list[str], Vectors]:
        who = rng.integers(SUBJECTS, size=count)
        return [f"s{i}" for i in who], probes_of(people[who], int(who[0]))

    first = ask(client, model.digest, known(10)[1])
    assert first.provenance.exact

    def approximate() -> bool:
        ask(client, model.digest, known(100)[1])
        return state(client).approximate

    until(approximate)
    now = state(client)
    assert now.tau == pytest.approx(TAU)
    assert 0 < now.share_read < 1
    expected, probes = known(500)
    near, sure = ask(client, model.digest, probes), ask(client, model.digest, probes, exact=True)
    assert (near.provenance.index_kind, near.provenance.exact) == ("ivf", False)
    assert (sure.provenance.index_kind, sure.provenance.exact) == ("flat", True)
    assert names(sure) == expected
    found = np.mean([one == other for one, other in zip(names(near), expected, strict=True)])
    assert found > 1 - 2 * (1 - MATES)
    for one, other in zip(near.results, sure.results, strict=True):  # who is found is measured exactly
        if one.subject_id:
            assert one.candidates[0] == other.candidates[0]
    strangers = units(rng.standard_normal((20, DIMENSION)))
    assert names(ask(client, model.digest, strangers)) == [""] * 20
    # Who comes is found at once.
    new = units(rng.standard_normal((1, DIMENSION)))
    client.enroll("many", "new", encoding(new[0], model.digest))
    assert names(ask(client, model.digest, new)) == ["new"]
    assert state(client).recent_count >= 1
    client.delete_subject("many", "new")
    assert names(ask(client, model.digest, new)) == [""]

    def counted(probe: str) -> float:
        return measured(server, "oneglance_approximate_checked_probes_total", gallery="many", probe=probe)

    until(lambda: counted("known") > 0)
    ask(client, model.digest, strangers)
    until(lambda: counted("stranger") > 0)
    assert measured(server, "oneglance_approximate_answers", gallery="many") == 1
    assert not client.set_approximation("many", None).HasField("approximation_state")
    assert ask(client, model.digest, probes).provenance.exact
