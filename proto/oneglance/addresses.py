"""What client, server and console tell from an address: ``host:port``, ``[IPv6]:port`` or ``unix:/path``."""

import os
from pathlib import Path

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # hosts that only this machine reaches
_UNIX = "unix:"


def host_of(address: str) -> str:
    """The host, without the brackets of IPv6."""
    return address.rpartition(":")[0].strip("[]")


def socket_of(address: str) -> Path | None:
    """The file of a Unix socket; None for any other address."""
    if not address.startswith(_UNIX):
        return None
    path = address.removeprefix(_UNIX)
    return Path(path.removeprefix("//") if path.startswith("///") else path)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it, and who answers there is to be trusted.

    Of a Unix socket: its file is the user's own, or root's; or where it is not there yet, nobody else may make it.
    """
    path = socket_of(address)
    if path is None:
        return host_of(address) in LOOPBACK
    try:
        return _is_ours(path.stat())
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        folder = path.parent.stat()
    except OSError:
        return False
    return _is_ours(folder) and not folder.st_mode & 0o022


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid in (os.geteuid(), 0)
