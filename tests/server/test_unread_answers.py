"""Answers that nobody reads are charged to who doesn't read them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, encoding, enroll_request, identify_request
from oneglance.v1.identification_pb2 import IdentifyStreamRequest
from tests.bad_client import BadClient
from tests.http2 import prefixed
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS

IDENTIFY = "/oneglance.v1.IdentificationService/Identify"
BUDGET = 64 << 20
SUBJECTS = 1000
PROBES = 50  # an answer lists 50,000 candidates: 7 MB
ANSWERS = 60


@pytest.fixture
def server(models: tuple[Path, Path], tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, models=models[0], log_level="error", max_inflight_bytes=BUDGET) as running:
        with Client(running.address, timeout_seconds=PATIENCE_SECONDS) as client:
            client.create_gallery("g")
            digest = client.get_gallery("g").encoder_digest
            points = np.random.default_rng(0).random((SUBJECTS, 64), dtype=np.float32)
            items = (
                enroll_request("g", f"{i:120}".strip(" ").rjust(120, "x"), [encoding(row, digest)])
                for i, row in enumerate(points)
            )
            assert all(answer.HasField("enrolled") for answer in client.bulk_enroll(items))
        yield running


@pytest.mark.parametrize("streamed", [False, True])
def test_unread_answers_are_bounded_and_others_are_answered(server: ServerProcess, streamed: bool) -> None:
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as bystander, ExitStack() as stack:
        digest = bystander.get_gallery("g").encoder_digest
        rows = np.random.default_rng(1).random((PROBES, 64), dtype=np.float32)
        request = identify_request("g", [encoding(row, digest) for row in rows], max_candidates=SUBJECTS)
        before = server.peak_bytes()
        for _ in range(2):
            attacker = stack.enter_context(BadClient(server.address, window=0))
            if streamed:
                streams = [attacker.begin(f"{IDENTIFY}Stream") for _ in range(4)]
                message = prefixed(IdentifyStreamRequest(request=request).SerializeToString())
            for number in range(ANSWERS // 2):
                if streamed:
                    attacker.send(streams[number % 4], message)
                else:
                    attacker.call(IDENTIFY, request.SerializeToString())
                # In turn with others, so that none is refused for a full queue.
                assert len(bystander.identify("g", encoding(rows[0], digest)).results) == 1
                attacker.listen(0.0)
        # Without a bound all would be held.
        assert server.peak_bytes() - before < 4 * BUDGET
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        assert client.identify("g", encoding(rows[0], digest)).results
