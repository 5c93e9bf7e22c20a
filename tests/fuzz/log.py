"""Exceptions in a server's log."""

import re
from collections import Counter

_CALLER_LEFT = "grpc._cython.cygrpc.ExecuteBatchError"
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_RAISED = re.compile(r"^(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Warning|Exhausted|Interrupt|Exit)?(?::.*)?$")


def errors_in(log: str) -> Counter[str]:
    """Tracebacks by the exception and the last line of the project's own code in it.

    Without those that gRPC writes by itself when a caller leaves while it sends the status.
    """
    found: Counter[str] = Counter()
    for part in log.split("Traceback (most recent call last)")[1:]:
        frames = _FRAME.findall(part)
        ours = [f"{path.split('/oneglance_')[-1]}:{line}" for path, line in frames if "/oneglance_" in path]
        if not ours and _CALLER_LEFT in part:
            continue
        others = [f"{'/'.join(path.split('/')[-2:])}:{line}" for path, line in frames]
        raised = next((line.strip() for line in part.splitlines() if _RAISED.match(line.strip())), "?")
        where = f"oneglance_{ours[-1]}" if ours else (others[-1] if others else "?")
        found[f"{raised[:120]} at {where}"] += 1
    return found
