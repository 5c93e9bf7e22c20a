"""Metrics over HTTP tell what happened, and the documentation lists them all."""

import asyncio
import re
import socket
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoded_subject, encoding
from oneglance_server.gallery_metrics import MOST_GALLERIES, OTHERS
from oneglance_server.loop_watch import watch_loop
from oneglance_server.metrics import Metrics
from tests.pictures import picture
from tests.running import measured, server_thread
from tests.waiting import loop_turns, reached, until

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_metrics(models: tuple[Path, Path], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (
        server_thread(data_dir=tmp_path, models=models, metrics=address) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder="pixels", fusion="nearest")
        client.enroll("g", "it", picture(5), picture(6))
        client.identify("g", picture(5), picture(5))
        client.identify("g", picture(5), tau=0)
        client.verify("g", "it", picture(7), tau=0)
        with pytest.raises(OneglanceError):
            client.identify("g", b"?")
        refused = "oneglance_call_seconds_count"
        of = {"method": "IdentificationService/Identify", "code": "INVALID_ARGUMENT"}
        until(lambda: measured(server, refused, **of))  # it is told before it is counted
        text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    values = {name: float(value) for name, value in re.findall(r"^(\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}
    assert values['oneglance_decisions_total{decision="identified",gallery="g"}'] == 3
    assert values['oneglance_decisions_total{decision="different",gallery="g"}'] == 1
    assert values['oneglance_gallery_subjects{gallery="g"}'] == 1
    assert values['oneglance_gallery_encodings{gallery="g"}'] == 2
    assert values['oneglance_batch_rows_sum{stage="encode"}'] == 7
    assert values['oneglance_queue_rows{stage="encode"}'] == 0
    assert values['oneglance_call_seconds_count{code="OK",method="IdentificationService/Identify"}'] == 2
    assert values['oneglance_call_seconds_count{code="INVALID_ARGUMENT",method="IdentificationService/Identify"}'] == 1
    documented = set(re.findall(r"^\| `(oneglance_[a-z_]+)", DOCS.read_text(), re.MULTILINE))
    served = {name for name in re.findall(r"^# TYPE (oneglance_\w+) ", text, re.MULTILINE) if "_created" not in name}
    assert documented == served


def test_of_many_galleries_some_have_series_of_their_own() -> None:
    metrics = Metrics()
    for i in range(MOST_GALLERIES + 5):
        metrics.decision(f"g{i}", "unknown", 1)
        metrics.drift(f"g{i}", "strangers", True)
        metrics.every_row(f"g{i}", 2)
        metrics.compared(f"g{i}", 2, 1)
    value = metrics.registry.get_sample_value
    assert value("oneglance_decisions_total", {"gallery": "g0", "decision": "unknown"}) == 1
    assert value("oneglance_decisions_total", {"gallery": OTHERS, "decision": "unknown"}) == 5
    assert value("oneglance_decisions_total", {"gallery": f"g{MOST_GALLERIES}", "decision": "unknown"}) is None
    assert value("oneglance_gallery_drift", {"gallery": f"g{MOST_GALLERIES}", "of": "strangers"}) is None
    assert value("oneglance_every_row_probes_total", {"gallery": "g0"}) == 2
    assert value("oneglance_every_row_probes_total", {"gallery": OTHERS}) == 10
    metrics.forget_gallery("g0")
    assert value("oneglance_every_row_probes_total", {"gallery": "g0"}) is None
    metrics.decision("new", "unknown", 1)
    assert value("oneglance_decisions_total", {"gallery": OTHERS, "decision": "unknown"}) == 6
    metrics.forget_gallery("g1")
    metrics.decision("newer", "unknown", 1)
    assert value("oneglance_decisions_total", {"gallery": "newer", "decision": "unknown"}) == 1


def test_probes_for_which_every_row_was_looked_at_are_told(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        digest = client.create_gallery("sphere", encoder="pixels", fusion="nearest", doubt_policy="off").encoder_digest
        ends = np.concatenate([np.eye(64, dtype=np.float32), -np.eye(64, dtype=np.float32)])
        new = (encoded_subject(f"s{i:03}", end) for i, end in enumerate(ends))
        assert all(
            one.HasField("enrolled") for one in client.bulk_enroll_encodings("sphere", new, encoder_digest=digest)
        )
        ramp = np.linspace(0.1, 1, 64, dtype=np.float32)
        (told,) = client.identify("sphere", encoding(ramp, digest), max_candidates=1).results
        assert told.candidates[0].subject_id == "s063"
        assert measured(server, "oneglance_every_row_probes_total", gallery="sphere") == 0
        middle = np.full(64, 1e-12, np.float32)
        answers = client.identify("sphere", *[encoding(middle, digest)] * 3, max_candidates=2).results
        assert [[one.subject_id for one in answer.candidates] for answer in answers] == [["s000", "s001"]] * 3
        assert measured(server, "oneglance_every_row_probes_total", gallery="sphere") == 3


async def test_what_blocks_the_loop_shows_in_its_lag() -> None:
    metrics = Metrics()
    watching = asyncio.create_task(watch_loop(metrics.loop_lag, every_seconds=0.001))
    await loop_turns(2)  # it sleeps
    time.sleep(0.1)
    await reached(lambda: metrics.registry.get_sample_value("oneglance_loop_lag_seconds_count"))
    watching.cancel()
    assert (metrics.registry.get_sample_value("oneglance_loop_lag_seconds_sum") or 0) > 0.09
