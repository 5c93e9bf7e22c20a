"""Where a Milvus is: milvus://HOST:PORT/DATABASE, or milvus+tls://... for TLS. Who uses it is not in it.

With ?replicas=N behind it, so many query nodes hold each row: answers go on when one of them dies."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from oneglance_index.errors import DeviceUnavailable

SCHEMES = {"milvus": "http", "milvus+tls": "https"}
_EXPECTED = "expected milvus://HOST:PORT/DATABASE?replicas=N or milvus+tls://..., without a user; N: 1 to 99"
_FORM = re.compile(
    r"(milvus|milvus\+tls)://(\[[0-9a-fA-F:]+\]|[\w.-]+):(\d{1,5})(?:/(\w*))?(?:\?replicas=([1-9]\d?))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Address:
    """`name` is the address as it was given, and what answers tell as their device."""

    name: str
    uri: str
    database: str
    replicas: int


def is_address(device: str) -> bool:
    return device.partition("://")[0] in SCHEMES


def parse_address(device: str) -> Address:
    """Raises DeviceUnavailable for anything else than SCHEME://HOST:PORT/DATABASE?replicas=N; without DATABASE it is
    "default", without replicas there is one."""
    match = _FORM.fullmatch(device)
    if match is None or int(match[3]) > 65535:
        shown = re.sub(r"//.*@", "//...@", device)
        raise DeviceUnavailable(shown, _EXPECTED)
    return Address(device, f"{SCHEMES[match[1]]}://{match[2]}:{match[3]}", match[4] or "default", int(match[5] or 1))


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
