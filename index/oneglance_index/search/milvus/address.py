"""Where a Milvus is: milvus://HOST:PORT/DATABASE, or milvus+tls://... for TLS. Who uses it is not in it.

With ?replicas=N behind it, so many query nodes hold each row: answers go on when one of them dies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from oneglance_index.errors import DeviceUnavailable

SCHEMES = {"milvus": "http", "milvus+tls": "https"}
_EXPECTED = "expected milvus://HOST:PORT/DATABASE?replicas=N or milvus+tls://..., without a user; N: 1 to 99"
# Its client reaches no IPv6 address in brackets.
_FORM = re.compile(r"(milvus|milvus\+tls)://([\w.-]+):(\d{1,5})(?:/(\w*))?(?:\?replicas=([1-9]\d?))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """`name` is the address as it was given, and what answers tell as their device."""

    name: str
    uri: str
    database: str
    replicas: int

    @property
    def tls(self) -> bool:
        return self.uri.startswith("https:")


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
