"""A server whose galleries are on a Milvus, which is in dictionaries."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, encoding
from oneglance_core.folder import read_any_model_folder
from oneglance_index import verify_receipt
from tests.index.fake_milvus import URL, FakeMilvus
from tests.models import pixels_model
from tests.running import server_thread


@pytest.mark.parametrize("copy_seconds", [0, 7200])
def test_receipts_tell_until_when_the_milvus_may_have_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy_seconds: int
) -> None:
    fake = FakeMilvus.installed(monkeypatch)
    digest = read_any_model_folder(pixels_model(tmp_path / "pixels")).digest
    vectors = np.eye(3, 64, dtype=np.float32)
    options = {"data_dir": tmp_path / "data", "galleries": URL, "galleries_copy_seconds": copy_seconds}
    with server_thread(models=(tmp_path / "pixels",), **options) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels", doubt_policy="off")
        client.set_threshold("g", 0.5)
        for i, vector in enumerate(vectors):
            client.enroll("g", f"s{i}", encoding(vector, digest))
        (result,) = client.identify("g", encoding(vectors[1], digest)).results
        assert result.candidates[0].subject_id == "s1"
        receipt = client.delete_subject("g", "s1").receipt
    said = verify_receipt(receipt, (tmp_path / "data/receipts.pub").read_text())
    if copy_seconds:
        time, until = (datetime.fromisoformat(said[name]) for name in ("time", "in_engine_until"))
        assert timedelta(seconds=copy_seconds - 1) <= until - time <= timedelta(seconds=copy_seconds)
    else:
        assert "in_engine_until" not in said
    assert fake.collections
