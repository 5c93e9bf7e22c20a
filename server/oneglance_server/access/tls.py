"""TLS of the server's port; certificates are read again when their files change."""

import hashlib
import threading
from datetime import UTC, datetime
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from oneglance_server.errors import StartupError
from oneglance_server.watched import Watched

log = structlog.get_logger()
_Pair = tuple[bytes, bytes]  # certificates and key, PEM


class Certificates:
    """The server's certificate chain and key, PEM, and the authority whose certificates clients must have (None: they
    need none). Raises StartupError."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        try:
            self._certificate, self._key = Watched(certificate, _as_it_is), Watched(key, _as_it_is)
            self._authority = Watched(client_ca, _authority) if client_ca else None
        except OSError as error:
            raise StartupError(f"can't read {error.filename or certificate}: {error.strerror or error}") from error
        self._pair: _Pair = (self._certificate.value, self._key.value)
        _check(*self._pair)
        self._given = self._configuration()
        self._told = ""
        self._looking = threading.Lock()

    @property
    def expires(self) -> float:
        """When the certificate that is served is over, seconds since the epoch."""
        return x509.load_pem_x509_certificates(self._pair[0])[0].not_valid_after_utc.timestamp()

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of what is served, hexadecimal, and of the authority of clients."""
        told = {"certificate": hashlib.sha256(self._pair[0]).hexdigest()}
        return told if self._authority is None else {**told, "client_ca": self._authority.sha256}

    def credentials(self, *, of_clients: bool) -> grpc.ServerCredentials:
        """Each new connection gets the certificates as they are then. ``of_clients``: they are asked for theirs, where
        there is an authority of clients."""
        return grpc.dynamic_ssl_server_credentials(
            self._given[1],
            self._changed,  # type: ignore[arg-type]  # grpc's documents allow None
            require_client_authentication=of_clients and self._authority is not None,
        )

    def look(self) -> tuple[bytes, bytes, bytes | None]:
        """Certificates, key and the authority of clients, PEM, as they are to be served now."""
        with self._looking:
            troubles = [self._look_at_pair(), self._look_at_authority()]
            trouble = "; ".join(filter(None, troubles))
            if trouble != self._told:
                self._told = trouble
                if trouble:
                    log.error("what is new can't be used; the former goes on", error=trouble)
            return *self._pair, self._authority.value if self._authority is not None else None

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake; None: as before. The authority of clients changes by itself."""
        self.look()
        fresh = self._configuration()
        if fresh[0] == self._given[0]:
            return None
        self._given = fresh
        log.info("certificates read again")
        return fresh[1]

    def _look_at_pair(self) -> str:
        """Why a new certificate and its key can't be used; "": they can, or there are none."""
        try:
            self._certificate.look()
            self._key.look()
            pair = (self._certificate.value, self._key.value)
            if pair != self._pair:
                _check(*pair)
                self._pair = pair
        except (OSError, StartupError) as error:  # one of two files is new, say
            return str(error)
        return ""

    def _look_at_authority(self) -> str:
        try:
            if self._authority is not None:
                self._authority.look()
        except (OSError, StartupError) as error:
            return str(error)
        return ""

    def _configuration(self) -> tuple[tuple[bytes | None, ...], grpc.ServerCertificateConfiguration]:
        certificate, key = self._pair
        authority = self._authority.value if self._authority is not None else None
        made = grpc.ssl_server_certificate_configuration([(key, certificate)], authority)
        return (certificate, key, authority), made


def _as_it_is(path: Path, data: bytes) -> bytes:
    return data


def _authority(path: Path, data: bytes) -> bytes:
    """Raises StartupError for what isn't PEM."""
    try:
        x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise StartupError(f"TLS: {path}: no PEM file of certificates ({error})") from error
    return data


def _check(certificate: bytes, key: bytes) -> None:
    """Raises StartupError for what isn't PEM, doesn't belong together, is over, or can't be served."""
    try:
        first = x509.load_pem_x509_certificates(certificate)[0]
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, IndexError) as error:
        raise StartupError(f"TLS: certificate or key is no PEM file that can be used ({error})") from error
    if not isinstance(private, RSAPrivateKey | EllipticCurvePrivateKey):
        raise StartupError("TLS: the key must be of RSA or an elliptic curve (ECDSA)")
    if _public(private.public_key()) != _public(first.public_key()):
        raise StartupError("TLS: the key is not that of the certificate")
    if not first.not_valid_before_utc <= datetime.now(UTC) <= first.not_valid_after_utc:
        raise StartupError("TLS: the certificate is not good yet, or no longer")


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
