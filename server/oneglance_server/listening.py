"""Why an address can't be listened on: gRPC doesn't say."""

import errno
import socket

from oneglance.addresses import host_of


def why_not(address: str) -> str:
    """``host:port`` that could not be listened on a moment ago: ``it is in use``, ``Name or service not known``."""
    try:
        places = socket.getaddrinfo(
            host_of(address), address.rpartition(":")[2], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, place in places:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
                tried.listen(1)
    except OSError as error:
        return "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return "it can't be used"
