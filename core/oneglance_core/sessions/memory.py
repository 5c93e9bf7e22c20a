"""A limit of what a graph may take while it is loaded and tried."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_one = threading.RLock()


@contextmanager
def limited_memory(most_bytes: int) -> Iterator[None]:
    """In the block this process gets so many bytes more than it has, all its threads together; an allocation beyond
    fails. One block at a time has its limit; 0: none. Where the system can't tell or limit it, there is none either."""
    with _one:
        held = _held() if most_bytes else None
        if held is None:
            yield
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = held + most_bytes
        if soft != resource.RLIM_INFINITY:
            wanted = min(wanted, soft)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _held() -> int | None:
    """What counts against RLIMIT_DATA, bytes."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None
