"""What keeps galleries, through the wire: receipts of deletions, retention, rotation of keys."""

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, retention
from oneglance.client.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from oneglance.v1.subject_pb2 import ListExpiredRequest
from oneglance_apps.cli import main
from oneglance_index import verify_receipt
from oneglance_server.app import Server
from tests.pictures import picture
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

SOON = datetime.now(UTC) + timedelta(days=300)


def test_a_deletion_is_answered_with_a_receipt(client: Client, server: Server, gallery: str) -> None:
    it = picture(1)
    first = client.enroll(gallery, "s", it, picture(2)).encoding_ids[0]
    key = (server.settings.data_dir / "receipts.pub").read_text()
    encoding = verify_receipt(client.delete_encoding(gallery, "s", first).receipt, key)
    subject = verify_receipt(client.delete_subject(gallery, "s").receipt, key)
    client.create_gallery("other", encoder="pixels")
    whole = verify_receipt(client.delete_gallery("other").receipt, key)
    assert (encoding["deleted"], encoding["encoding"]) == ("encoding", first)
    assert (subject["deleted"], subject["subject"], subject["gallery"]) == ("subject", "s", gallery)
    assert (whole["deleted"], whole["gallery"]) == ("gallery", "other")


def test_retention_is_kept_told_and_rehearsed(client: Client, gallery: str) -> None:
    client.enroll(gallery, "s", picture(1), retention=retention(SOON, "entrance", "c-17"))
    kept = client.get_subject(gallery, "s").retention
    assert kept.expire_time.ToDatetime(UTC) == SOON
    assert (kept.purpose, kept.consent) == ("entrance", "c-17")
    assert list(client.list_expired()) == []
    (over,) = client.list_expired(SOON + timedelta(seconds=1))
    assert (over.gallery_id, over.subject_id, over.retention) == (gallery, "s", kept)
    client.set_retention(gallery, "s", retention())
    assert not client.get_subject(gallery, "s").HasField("retention")
    with pytest.raises(NotFoundError):
        client.set_retention(gallery, "nobody", retention())
    with pytest.raises(InvalidArgumentError):
        client.set_retention(gallery, "s", retention(purpose="x" * 1001))
    request = ListExpiredRequest()
    request.at.seconds = -5
    with pytest.raises(InvalidArgumentError):
        client._call(client._subjects.ListExpired, request)


def test_keys_rotate_while_it_serves(client: Client, server: Server, gallery: str) -> None:
    client.enroll(gallery, "s", picture(1), labels={"a": "b"})
    master = (server.settings.data_dir / "master.key").read_text()
    client.rotate_key(gallery)
    client.rotate_key()
    assert (server.settings.data_dir / "master.key").read_text() != master
    assert client.get_subject(gallery, "s").labels == {"a": "b"}
    with pytest.raises(NotFoundError):
        client.rotate_key("nowhere")


def test_the_command_line_has_them(
    server: Server, client: Client, gallery: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "it.npy", picture(1))
    at = ["--server", server.address]
    commands = [
        ["enroll", gallery, "s", str(tmp_path / "it.npy"), "--expires", "2050-01-31", "--purpose", "entrance"],
        ["list-expired", "--at", "2050-02-01"],
        ["set-retention", gallery, "s", "--consent", "c-17"],
        ["rotate-key", gallery],
        ["rotate-key"],
        ["delete-subject", gallery, "s"],
    ]
    for command in commands:
        assert main([*command, *at]) == 0
    out = capsys.readouterr().out
    assert "entrance" in out
    assert "receipt" in out


def test_a_master_key_that_its_source_does_not_change_is_told(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", secrets.token_hex(32))
    with (
        server_thread(data_dir=tmp_path, models=models[:1], master_key="env:OUR_KEY") as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g")
        with pytest.raises(FailedPreconditionError) as told:
            client.rotate_key()
        assert told.value.reason in ("MASTER_KEY_MISSING", "MASTER_KEY_WRONG")
        monkeypatch.setenv("OUR_KEY", secrets.token_hex(32))
        client.rotate_key()
        client.enroll("g", "s", picture(1))
