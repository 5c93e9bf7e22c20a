"""TLS and certificates of clients, on a real port."""

import hashlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from oneglance import Client, OneglanceError, tls_credentials
from oneglance.client.errors import UnauthenticatedError
from oneglance_apps.cli import main
from oneglance_index import read_trail
from oneglance_server.access.tls import Certificates
from oneglance_server.app import Server
from oneglance_server.errors import StartupError
from oneglance_server.settings import load_settings
from tests.pictures import picture
from tests.running import server_thread
from tests.server.access.callers import grant
from tests.waiting import PATIENCE_SECONDS, until

Name = str | x509.GeneralName  # text: a DNS name


class Authority:
    """A certificate authority of its own, and what it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / f"{name}.pem"
        made = self._signed(self._name, self._key.public_key(), (), is_ca=True)
        self.ca.write_bytes(made.public_bytes(Encoding.PEM))

    def sign(self, name: str, *alternatives: Name) -> tuple[Path, Path]:
        """Files of a certificate and its key; the server's are for localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), alternatives, is_ca=False
        )
        file = name.replace("\0", "0")
        certificate, secret = self._folder / f"{file}.crt", self._folder / f"{file}.key"
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        return certificate, secret

    def _signed(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        alternatives: tuple[str | x509.GeneralName, ...],
        *,
        is_ca: bool,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if alternatives:
            names = [x509.DNSName(one) if isinstance(one, str) else one for one in alternatives]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="module")
def mutual(
    authority: Authority, models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose clients need a certificate."""
    folder = tmp_path_factory.mktemp("mutual")
    policy = folder / "policy.toml"
    policy.write_text(grant(["cert:boss"], ["*"], ["*"]) + grant(["cert:gate-*"], ["g"], ["identify"]))
    certificate, key = authority.sign("server", "localhost")
    with server_thread(
        data_dir=folder / "data",
        models=models[:1],
        policy=str(policy),
        tls_cert=str(certificate),
        tls_key=str(key),
        tls_client_ca=str(authority.ca),
    ) as running:
        with connected(running, authority, "boss") as boss:
            boss.create_gallery("g", encoder="pixels")
            boss.enroll("g", "it", picture(1))
        yield running


def address(server: Server) -> str:
    return f"localhost:{server.address.rpartition(':')[2]}"


def connected(server: Server, authority: Authority, name: str, *alternatives: Name) -> Client:
    return Client(
        address(server),
        credentials=tls_credentials(authority.ca, *authority.sign(name, *alternatives)),
        timeout_seconds=PATIENCE_SECONDS,
    )


def test_a_certificate_says_who_calls(mutual: Server, authority: Authority) -> None:
    with connected(mutual, authority, "gate-3") as gate:
        assert gate.get_identity().name == "cert:gate-3"
        assert gate.identify("g", picture(1)).results[0].subject_id == "it"
        with pytest.raises(OneglanceError, match="PERMISSION_DENIED"):
            gate.delete_gallery("g")
    with connected(mutual, authority, "boss", "gate-7.example.org") as gate:  # the alternative name beats it
        assert gate.get_identity().name == "cert:gate-7.example.org"


@pytest.mark.parametrize(
    ("name", "alternatives"),
    [("boss\0.evil", ()), ("x", ("boss\0.evil.org",)), ("a\nb", ()), ("x", (x509.RFC822Name("boss"),))],
)
def test_names_that_could_be_taken_for_another_are_none(
    mutual: Server, authority: Authority, name: str, alternatives: tuple[Name, ...]
) -> None:
    with connected(mutual, authority, name, *alternatives) as caller:
        try:
            found = caller.get_identity().name
        except UnauthenticatedError:
            return
    assert found == "cert:x"  # an address of mail isn't a name


def test_without_the_right_certificate_nobody_gets_through(
    mutual: Server, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "theirs")
    kinds = [
        None,  # no TLS at all
        tls_credentials(authority.ca),  # no certificate
        tls_credentials(authority.ca, *other.sign("boss")),  # of another authority
        tls_credentials(other.ca, *authority.sign("boss")),  # who trusts another authority
    ]
    for credentials in kinds:
        with Client(address(mutual), credentials=credentials, timeout_seconds=5.0) as client:
            with pytest.raises(OneglanceError) as refused:
                client.list_galleries().__next__()
            assert refused.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_certificates_are_replaced_under_load_without_a_failed_call(models: tuple[Path, Path], tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    certificate, key = authority.sign("server", "localhost")
    with server_thread(
        data_dir=tmp_path / "data", models=models[:1], tls_cert=str(certificate), tls_key=str(key)
    ) as server:
        failed: list[Exception] = []
        done, calls = threading.Event(), [0]

        def call() -> None:
            while not done.is_set():
                try:  # each on a connection of its own: each sees the certificate as it is then
                    credentials = tls_credentials(authority.ca)
                    with Client(address(server), credentials=credentials, timeout_seconds=PATIENCE_SECONDS) as client:
                        client.list_models()
                    calls[0] += 1
                except OneglanceError as error:
                    failed.append(error)

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        numbers = {serial_of(server)}
        for _ in range(3):
            authority.sign("server", "localhost")  # the key first, then its certificate: between them they don't fit
            until(lambda: serial_of(server) not in numbers)
            numbers.add(serial_of(server))
        digest = hashlib.sha256(certificate.read_bytes()).hexdigest()
        until(lambda: [one["certificate"] for one in entries(tmp_path / "data", "access")][-1:] == [digest])
        assert len(entries(tmp_path / "data", "access")) <= 3
        certificate.write_text("no certificate")
        before = calls[0]
        until(lambda: calls[0] > before + 5)
        done.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert not failed
        assert serial_of(server) in numbers


def entries(data_dir: Path, did: str) -> list[dict[str, str]]:
    """Of the audit trail."""
    return [entry for entry in map(json.loads, read_trail(data_dir)) if entry["did"] == did]


def serial_of(server: Server) -> int:
    """Of the certificate that a new connection is shown."""
    import ssl

    pem = ssl.get_server_certificate(("localhost", int(server.address.rpartition(":")[2])), timeout=PATIENCE_SECONDS)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_the_command_line_and_tokens_go_over_tls(
    mutual: Server, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = authority.sign("gate-1")
    options = ["--server", address(mutual), "--ca", str(authority.ca), "--client-cert", str(certificate)]
    assert main(["get-identity", *options, "--client-key", str(key)]) == 0
    assert "cert:gate-1" in capsys.readouterr().out
    assert main(["get-identity", *options]) == 2  # no key
    with pytest.raises(ValueError, match="readable on its way"):
        Client("example.org:50051", token="secret")


def test_what_can_not_be_used_is_a_start_up_error(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("one", "localhost")
    other = authority.sign("two", "localhost")[1]
    (tmp_path / "text").write_text("hello")
    for files, what in (
        ((certificate, other, None), "not that of the certificate"),
        ((tmp_path / "text", key, None), "no PEM file"),
        ((certificate, tmp_path / "text", None), "no PEM file"),
        ((certificate, key, tmp_path / "text"), "no PEM file of certificates"),
        ((tmp_path / "missing", key, None), "can't read"),
    ):
        with pytest.raises(StartupError, match=what):
            Certificates(*files)


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ({"listen": "0.0.0.0:0"}, "beyond loopback"),
        ({"listen": "[::]:0"}, "beyond loopback"),
        ({"listen": "192.168.1.5:50051", "policy": "p.toml"}, "beyond loopback"),
        ({"listen": "example.org:50051", "tls_cert": "a", "tls_key": "b"}, "beyond loopback"),
        ({"metrics": "0.0.0.0:9090"}, "--metrics"),
        ({"console": "0.0.0.0:8080"}, "--console"),
        ({"console": "127.0.0.2:8080"}, "--console"),  # one rule of loopback for server, console and client
        ({"listen": "127.0.0.2:0"}, "beyond loopback"),
        ({"tls_cert": "a"}, "go together"),
        ({"tls_client_ca": "a"}, "needs --tls-cert"),
    ],
)
def test_beyond_loopback_a_server_is_safe_or_says_that_it_is_not(flags: dict[str, str], what: str) -> None:
    with pytest.raises(StartupError, match=what):
        load_settings(flags)
    if what == "beyond loopback" or what.startswith(("--m", "--c")):
        load_settings({**flags, "insecure": True})


def test_tls_and_a_policy_are_enough() -> None:
    flags = {"listen": "0.0.0.0:50051", "tls_cert": "a", "tls_key": "b", "policy": "c"}
    assert load_settings(flags).listen == "0.0.0.0:50051"
