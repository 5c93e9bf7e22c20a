"""TLS of the server's port; certificates are read again when their files change."""

from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from oneglance_server.access.files import Watched
from oneglance_server.errors import StartupError

log = structlog.get_logger()


class Certificates:
    """The server's certificate chain and key, PEM, and the authority whose certificates clients must have (None: they
    need none). Raises StartupError."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        paths = [certificate, key] + ([client_ca] if client_ca else [])
        try:
            self._files = [Watched(path, lambda path, data: data) for path in paths]
        except OSError as error:
            raise StartupError(f"can't read {error.filename}: {error.strerror}") from error
        self.expires = _checked(*self._contents())
        self._given = self._contents()

    def credentials(self) -> grpc.ServerCredentials:
        """Each new connection gets the certificates as they are then."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._changed,  # type: ignore[arg-type]  # grpc's documents allow None
            require_client_authentication=len(self._files) > 2,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake; None: as before."""
        try:
            for file in self._files:
                file.look()
            if self._contents() == self._given:
                return None
            self.expires = _checked(*self._contents())
        except (OSError, StartupError) as error:  # one of two files is new, say: the next handshake looks again
            log.error("the new certificate can't be used; the former one is", error=str(error))
            return None
        self._given = self._contents()
        log.info("certificates read again", expires=self.expires)
        return self._configuration()

    def _contents(self) -> tuple[bytes, ...]:
        return tuple(file.value for file in self._files)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *authority = self._contents()
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority[0] if authority else None)


def _checked(certificate: bytes, key: bytes, authority: bytes | None = None) -> str:
    """When it ends, ISO 8601. Raises StartupError for what isn't PEM, or doesn't belong together."""
    try:
        first = x509.load_pem_x509_certificates(certificate)[0]
        private = load_pem_private_key(key, None)
        if authority is not None:
            x509.load_pem_x509_certificates(authority)
    except (ValueError, TypeError, IndexError) as error:
        raise StartupError(f"TLS: certificate, key or client CA is no PEM file that can be used ({error})") from error
    if _public(private.public_key()) != _public(first.public_key()):
        raise StartupError("TLS: the key is not that of the certificate")
    return first.not_valid_after_utc.isoformat()


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
