"""A smoke test with milvus-lite, on every machine: that the client takes what is asked of it and is read as it answers.

milvus-lite is another program than Milvus, in Python. It hides nothing for a while and never dies, so it tells nothing
of exactness beyond one machine: that is for the real one, beside this.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import Found, LocalGalleries, Search
from tests.index.milvus.brute_force import nearest

lite = pytest.importorskip("milvus_lite.adapter.grpc.server")
pymilvus = pytest.importorskip("pymilvus")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """Of a server that was just started. Four things that it hasn't are put in their places."""
    client, descriptions = pymilvus.MilvusClient, dict[str, str]()
    create, describe = client.create_collection, client.describe_collection

    def create_collection(self: Any, name: str, **given: Any) -> None:
        descriptions[name] = given["schema"].description
        create(self, name, **given)

    def describe_collection(self: Any, name: str, **given: Any) -> dict[str, Any]:
        return {**describe(self, name, **given), "description": descriptions[name]}

    monkeypatch.setattr(client, "create_collection", create_collection)
    monkeypatch.setattr(client, "describe_collection", describe_collection)
    monkeypatch.setattr(client, "describe_replica", lambda *_, **__: ["the only one"])
    monkeypatch.setattr(client, "compact", lambda *_, **__: None)
    monkeypatch.setattr(client, "list_persistent_segments", lambda *_, **__: [])
    caplog.set_level(logging.CRITICAL, "grpc._server")  # it logs each call that it hasn't, with a trace
    server, database, port = lite.start_server_in_thread(data_dir=str(tmp_path / "lite.db"), host="127.0.0.1", port=0)
    yield f"milvus://127.0.0.1:{port}/default"
    server.stop(grace=None).wait()
    database.close()


def test_what_is_enrolled_is_found_and_what_is_deleted_is_not(tmp_path: Path, url: str) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((300, 16), dtype=np.float32)
    rows = [(f"s{i}", vector) for i, vector in enumerate(vectors)]
    probes = vectors[:40] + random.standard_normal((40, 16), dtype=np.float32) * np.float32(0.25)
    data = tmp_path / "data"

    def check(galleries: LocalGalleries) -> None:
        (found,) = galleries.search_many("g", [Search(probes, "e", 3, 1.0, 5)])
        assert isinstance(found, Found)
        told = [[(one.subject_id, one.distance) for one in near] for near in found.candidates]
        assert told == [nearest(rows, probe)[:3] for probe in probes]

    with LocalGalleries.open(data, device=url) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=16).result()
        for done in [galleries.enroll("g", subject, vector[None]) for subject, vector in rows]:
            done.result()
        check(galleries)  # some in memory, some there
        galleries.compact("g")
        check(galleries)
        for subject, _ in rows[:20]:
            galleries.delete_subject("g", subject).result()
        rows = rows[20:]
        check(galleries)
    with LocalGalleries.open(data, device=url) as galleries:
        check(galleries)
        assert galleries.device == url
