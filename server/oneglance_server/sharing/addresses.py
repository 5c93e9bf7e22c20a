"""Where galleries are that another process keeps."""

from __future__ import annotations

import re
from dataclasses import dataclass

import grpc

SCHEMES = ("keeper", "keeper+tls", "keeper+unix")
# Of messages: both sides trust each other, and each bounds what it asks for.
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_OPTIONS = [*LIMITS, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
_FORM = re.compile(r"keeper(\+tls)?://(\[[0-9a-fA-F:]+\]|[\w.-]+):(\d{1,5})|keeper\+unix:/.+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where a keeper is: keeper://HOST:PORT, keeper+tls://HOST:PORT, or keeper+unix:/PATH; what must be shown there;
    and the authority that its certificate is from, PEM, None: one that the system knows."""

    name: str
    token: str = ""
    authority: bytes | None = None

    def channel(self) -> grpc.Channel:
        scheme, _, rest = self.name.partition(":")
        if scheme == "keeper+tls":
            return grpc.secure_channel(rest[2:], grpc.ssl_channel_credentials(self.authority), _OPTIONS)
        return grpc.insecure_channel(f"unix:{rest}" if scheme == "keeper+unix" else rest[2:], _OPTIONS)


def is_keeper(address: str) -> bool:
    """Whether it is meant to be one."""
    return address.partition(":")[0] in SCHEMES


def check_keeper(address: str) -> None:
    """Raises ValueError for what is no address of a keeper."""
    match = _FORM.fullmatch(address)
    if match is None or int(match[3] or 0) > 65535:
        raise ValueError("expected keeper://HOST:PORT, keeper+tls://HOST:PORT or keeper+unix:/PATH")
