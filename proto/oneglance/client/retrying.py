"""Which calls may be sent again, and when; and which are too large to be sent."""

from __future__ import annotations

import random
from typing import Any

import grpc

from oneglance.client.errors import ResourceExhaustedError
from oneglance.defaults import MAX_MESSAGE_BYTES

_FIRST_SECONDS, _MOST_SECONDS = 0.1, 5.0
# Requests of calls that change nothing, by the beginning of their names.
_READING = ("Count", "Describe", "Detect", "Encode", "Get", "Identify", "List", "Stylize", "Verify")


def checked_retries(retries: int) -> int:
    """Raises ValueError, TypeError."""
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(f"retries is a whole number, not {type(retries).__name__}")
    if not 0 <= retries <= 100:
        raise ValueError(f"retries is 0 to 100, got {retries}")
    return retries


def pause_before_retry(error: grpc.RpcError, request: Any, attempt: int) -> float | None:
    """Seconds until the call may be sent again, the ``attempt``-th time, from 0; None: never.

    The pause doubles each time, and differs by chance, so that many clients don't come back together.
    """
    call: Any = error
    if call.code() is not grpc.StatusCode.UNAVAILABLE or not is_idempotent(request):
        return None
    pause: float = min(_MOST_SECONDS, _FIRST_SECONDS * 2.0**attempt) * random.uniform(0.5, 1.5)
    return pause


def is_idempotent(request: Any) -> bool:
    """Whether a call may be made twice and nothing comes of the second."""
    name: str = type(request).DESCRIPTOR.name
    return name.startswith(_READING) or (name == "EnrollRequest" and bool(request.request_id))


def check_size(request: Any) -> None:
    """Raises ResourceExhaustedError for a message that is larger than gRPC sends."""
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise ResourceExhaustedError(
            f"the request has {size:,} bytes, at most {MAX_MESSAGE_BYTES:,} can be sent: give smaller pictures, or "
            "fewer in one call",
            reason="MESSAGE_TOO_LARGE",
            metadata={"bytes": str(size), "limit": str(MAX_MESSAGE_BYTES)},
        )
