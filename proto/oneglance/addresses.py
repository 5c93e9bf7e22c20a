"""What client, server and console tell from an address: ``host:port``, ``[IPv6]:port`` or ``unix:path``."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # hosts that only this machine reaches


def host_of(address: str) -> str:
    """The host, without the brackets of IPv6."""
    return address.rpartition(":")[0].strip("[]")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it."""
    return address.startswith("unix:") or host_of(address) in LOOPBACK
