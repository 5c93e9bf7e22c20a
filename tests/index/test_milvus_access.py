"""What is shown to a Milvus, and what is told of one that doesn't take it, without a Milvus; tests/index/milvus has the
real one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from oneglance_index.errors import DeviceUnavailable, EngineUnavailable
from oneglance_index.search.milvus import connection
from oneglance_index.search.milvus.access import Access, reason_of, refuses_token
from oneglance_index.search.milvus.address import parse_address
from oneglance_index.search.milvus.connection import Connection

TLS, PLAIN = parse_address("milvus+tls://h:1/d"), parse_address("milvus://h:1/d")


def certificate(folder: Path, name: str, encryption: KeySerializationEncryption | None = None) -> tuple[str, str]:
    """Files of one that signed itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return str(files[0]), str(files[1])


def test_files_are_looked_at_before_they_are_used(tmp_path: Path) -> None:
    ours, key = certificate(tmp_path, "ours")
    _, another = certificate(tmp_path, "another")
    _, locked = certificate(tmp_path, "locked", BestAvailableEncryption(b"password"))
    (tmp_path / "rubbish").write_text("no certificate")
    rubbish = str(tmp_path / "rubbish")
    assert Access("", ours).arguments(TLS) == {"token": "", "server_pem_path": ours}
    mutual = {"ca_pem_path": ours, "client_pem_path": ours, "client_key_path": key}
    assert Access("", ours, ours, key).arguments(TLS) == {"token": "", **mutual}
    assert Access().arguments(TLS) == Access().arguments(PLAIN) == {"token": ""}
    for access, told in (
        (Access("", rubbish), f"{rubbish}: "),
        (Access("", "/not/there"), "/not/there: No such file"),
        (Access("", ours, ours, another), f"{ours} and {another}: "),
        (Access("", ours, ours, locked), f"{ours} and {locked}: "),  # nobody is asked for a password
        (Access("", ours, ours), "goes with its key"),
        (Access("", "", ours, key), "goes with its key"),
    ):
        with pytest.raises(DeviceUnavailable, match=told):
            access.arguments(TLS)
    with pytest.raises(DeviceUnavailable, match="without TLS"):
        Access("", ours).arguments(PLAIN)


class Refused(Exception):
    """As gRPC's: code and details are methods."""

    def __init__(self, code: str, details: str) -> None:
        self.code = lambda: SimpleNamespace(name=code)
        self.details = lambda: details


class ClientError(Exception):
    """As pymilvus's: it says nothing of why, and is raised from itself."""

    message = "Fail connecting to server on h:1, illegal connection params or server unavailable"

    def __init__(self, code: str, details: str) -> None:
        self.code = 2
        self.__cause__ = self if not code else Refused(code, details)


@pytest.mark.parametrize(
    ("code", "details", "told"),
    [
        ("UNAUTHENTICATED", "auth check failure", "it refuses the token, or wants one: auth check failure"),
        ("UNAVAILABLE", "failed to connect; last error: UNKNOWN: ipv4:1:1: Connection refused", "Connection refused"),
        ("UNAVAILABLE", "x; last error: y: Socket closed", "perhaps it wants TLS (milvus+tls://)"),
        ("", "", "Fail connecting to server"),
    ],
)
def test_why_it_does_not_answer_is_told_by_what_is_beneath(code: str, details: str, told: str) -> None:
    error = ClientError(code, details)
    assert told in reason_of(error)
    assert "failed to connect" not in reason_of(error)
    assert refuses_token(error) == (code == "UNAUTHENTICATED")


class Milvus:
    """The client of one that takes one token; `shown`: what each connection showed."""

    token = "first"

    def __init__(self, token: str, **_: Any) -> None:
        self._token, self.closed = token, False
        self._let_in()

    def _let_in(self) -> None:
        if self._token != Milvus.token:
            raise ClientError("UNAUTHENTICATED", "auth check failure")

    def list_collections(self, **_: Any) -> list[str]:
        assert not self.closed
        self._let_in()
        return []

    def close(self) -> None:
        self.closed = True


def listed(opened: Connection) -> list[str]:
    return opened.call(lambda client: client.list_collections())


def test_a_token_that_is_refused_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", SimpleNamespace(MilvusClient=Milvus))
    for name in ("PATIENCE_SECONDS", "_WHILE_DOWN_SECONDS", "_PAUSE_SECONDS", "_CONNECT_PAUSE_SECONDS"):
        monkeypatch.setattr(connection, name, 0.0)
    monkeypatch.setattr(Milvus, "token", "first")
    token = tmp_path / "token"
    token.write_text("another\n")
    access = Access(f"file:{token}")
    with pytest.raises(DeviceUnavailable, match="refuses the token"):
        Connection(PLAIN, access)
    token.write_text("first\n")
    opened = Connection(PLAIN, access)
    clients = [opened.client]
    for following in ("second", "third"):
        monkeypatch.setattr(Milvus, "token", following)
        with pytest.raises(EngineUnavailable, match="refuses the token"):
            listed(opened)
        assert opened.trouble()
        assert opened.client is clients[-1]
        token.write_text(f"{following}\n")
        with pytest.raises(EngineUnavailable):  # this very call, which has no time to try again
            listed(opened)
        assert listed(opened) == []
        assert opened.trouble() is None
        clients.append(opened.client)
    assert [one.closed for one in clients] == [True, False, False]  # calls may be under way with the second
    opened.close()
    assert all(one.closed for one in clients)
