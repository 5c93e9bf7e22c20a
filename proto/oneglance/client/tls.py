"""TLS of a client's connection."""

from __future__ import annotations

from pathlib import Path

import grpc


def tls_credentials(
    ca: str | Path | None = None, certificate: str | Path | None = None, key: str | Path | None = None
) -> grpc.ChannelCredentials:
    """For ``Client(..., credentials=...)``; all are PEM files.

    ca: the authority that the server's certificate must be of; None: one of those that the system trusts.
    certificate, key: the client's own, if the server asks for one; both or neither. Raises OSError, ValueError.
    """
    if (certificate is None) != (key is None):
        raise ValueError("a client's certificate and its key go together")
    root, own, secret = (None if path is None else Path(path).read_bytes() for path in (ca, certificate, key))
    return grpc.ssl_channel_credentials(root, secret, own)
