"""Access: what is shown to a Milvus, and from whom its certificate must be."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneglance_index.errors import DeviceUnavailable
from oneglance_index.search.milvus.address import Address

# What gRPC says where two sides don't suit each other, and what that may mean.
_HINTS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate isn't from the authority that is told",
    "Hostname Verification Check failed": "its certificate is for another name",
    "WRONG_VERSION_NUMBER": "perhaps it is without TLS (milvus://)",
    "TSI_DATA_CORRUPTED": "perhaps it asks for a certificate of its own authority",
    "Socket closed": "perhaps it wants TLS (milvus+tls://)",
}
# Of a text of gRPC's: what comes before is the same for all.
_LAST = "last error: "


@dataclass(frozen=True, slots=True)
class Access:
    """`token`: file:PATH or env:NAME, which holds user:password or an API key. `authority`: the certificate of whom
    Milvus's must be from, `certificate` and `key`: who this side is, where Milvus asks; files, PEM. "": none."""

    token: str = ""
    authority: str = ""
    certificate: str = ""
    key: str = ""

    def arguments(self, address: Address) -> dict[str, Any]:
        """Those of its client, read anew. Raises DeviceUnavailable."""
        return {"token": read_token(self.token, address.name), **self._files(address)}

    def _files(self, address: Address) -> dict[str, str]:
        files = self.authority, self.certificate, self.key
        if any(files) and not address.tls:
            raise DeviceUnavailable(address.name, "milvus:// is without TLS, and certificates are for milvus+tls://")
        own = bool(self.certificate or self.key)
        if own and not all(files):
            raise DeviceUnavailable(address.name, "a certificate goes with its key, and with an authority for Milvus's")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.authority:
            with _named(address, self.authority):
                context.load_verify_locations(self.authority)
        if not own:
            return {"server_pem_path": self.authority} if self.authority else {}
        with _named(address, f"{self.certificate} and {self.key}"):
            context.load_cert_chain(self.certificate, self.key, password="")
        return {"ca_pem_path": files[0], "client_pem_path": files[1], "client_key_path": files[2]}


@contextlib.contextmanager
def _named(address: Address, files: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl's, too
        raise DeviceUnavailable(address.name, f"{files}: {error.strerror or error}") from error


def read_token(source: str, device: str) -> str:
    """A token (user:password, or an API key) from file:PATH or env:NAME; "" for none. Raises DeviceUnavailable."""
    kind, _, where = source.partition(":")
    try:
        if not source:
            return ""
        if kind == "file":
            return Path(where).read_text().strip()
        if kind == "env":
            return os.environ[where].strip()
    except (OSError, KeyError, ValueError):
        raise DeviceUnavailable(device, f"its token can't be read from {source}") from None
    raise DeviceUnavailable(device, "its token is told as file:PATH or env:NAME")


def refuses_token(error: BaseException) -> bool:
    """Whether Milvus wants another token, or one."""
    return _status(error)[0] == "UNAUTHENTICATED"


def reason_of(error: BaseException) -> str:
    """Why Milvus doesn't answer, in a line."""
    code, text = _status(error)
    text = " ".join(text.rpartition(_LAST)[2].split())
    hint = next((words for said, words in _HINTS.items() if said in text), "")
    if code == "UNAUTHENTICATED":
        hint = "it refuses the token, or wants one"
    return f"{hint}: {text}"[:200] if hint else text[:200]


def _status(error: BaseException) -> tuple[str, str]:
    """gRPC's code, "" for none, and the text: the client hides them in what its errors were raised from."""
    one: BaseException | None = error
    while one is not None:
        code, details = getattr(one, "code", None), getattr(one, "details", None)
        if callable(code) and callable(details):
            return code().name, details() or ""
        one = one.__cause__ if one.__cause__ is not one else None  # it raises errors from themselves
    return "", str(getattr(error, "message", error))
