"""Addresses to listen on: Unix sockets, which have a file, and why one can't be had, which gRPC doesn't say."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oneglance.addresses import host_of, socket_of
from oneglance_server.errors import StartupError

MAX_SOCKET_PATH = 107  # bytes (Linux)
_OTHERS = 0o177  # what the owner alone may do, as a umask
_IN_USE = "it is in use"
_SECONDS = 1.0


def clear_socket(path: Path) -> None:
    """Take away the file that a server left which was killed. Raises StartupError where one listens, and for any other
    file."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartupError(f"can't listen on {path}: it is there, and no socket")
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(_SECONDS)
            tried.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except TimeoutError:
        raise StartupError(f"can't listen on {path}: {_IN_USE}") from None
    except OSError as error:
        raise StartupError(f"can't listen on {path}: {error.strerror or error}") from error
    else:
        raise StartupError(f"can't listen on {path}: {_IN_USE}")


@contextmanager
def owner_only() -> Iterator[None]:
    """What is made meanwhile is the owner's alone."""
    before = os.umask(_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def why_not(address: str) -> str:
    """What could not be listened on a moment ago: ``it is in use``, ``Name or service not known``."""
    path = socket_of(address)
    try:
        if path is not None:
            with socket.socket(socket.AF_UNIX) as tried:
                tried.bind(str(path))
            path.unlink()
            return "it can't be used"
        places = socket.getaddrinfo(
            host_of(address), address.rpartition(":")[2], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, place in places:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
                tried.listen(1)
    except OSError as error:
        return _IN_USE if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return "it can't be used"
