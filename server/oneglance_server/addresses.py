"""Can this machine be listened on at an address? Why not, in words."""

import socket

from oneglance.addresses import host_of
from oneglance_server.errors import StartupError


def check_host(address: str) -> None:
    """``host:port``, or ``unix:path``. Raises StartupError for a host that doesn't exist, isn't this machine's, or is
    IPv6 without its brackets; and for a port that is taken."""
    if address.startswith("unix:"):
        return
    host, _, port = address.rpartition(":")
    if ":" in host and not host.startswith("["):
        raise StartupError(f"can't listen on {address}: an IPv6 address stands in brackets, as [{host}]:{port}")
    try:
        found = socket.getaddrinfo(host_of(address), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartupError(f"can't listen on {address}: there is no host {host!r}: {error}") from error
    failures: list[OSError] = []
    for family, kind, protocol, _, place in found:  # one of them is enough: a machine may lack IPv6
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                probe.listen(1)
                return
        except OSError as error:
            failures.append(error)
    raise StartupError(f"can't listen on {address}: {failures[0].strerror or failures[0]}") from failures[0]
