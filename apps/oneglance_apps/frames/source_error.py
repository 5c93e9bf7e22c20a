"""Why a source can't be read: a reason for programs, a message for people."""

import errno
from typing import Literal

import av

Reason = Literal[
    "silent", "timeout", "refused", "password", "path", "transport", "ended", "unreadable", "damaged", "other"
]
"""silent: open, but no frame comes. timeout: no answer. refused: nobody listens there. password: wrong or missing, or
not allowed. path: there is nothing of that name. transport: not offered. ended: it was closed by the other side.
unreadable: no video. damaged: incomplete, or with errors in it."""

_OF_ERROR: dict[type[Exception], tuple[Reason, str]] = {
    av.error.HTTPUnauthorizedError: ("password", "user or password is wrong or missing"),
    av.error.HTTPForbiddenError: ("password", "this user may not see it"),
    av.error.HTTPNotFoundError: ("path", "there is nothing at this path"),
    av.error.FileNotFoundError: ("path", "there is nothing at this path"),
    av.error.ConnectionRefusedError: ("refused", "connection refused: nothing listens at this address and port"),
    av.error.TimeoutError: ("timeout", "no connection in time"),
    av.error.ConnectionResetError: ("ended", "the other side closed the connection"),
    av.error.EOFError: ("ended", "the other side closed the connection"),
}
_TRANSPORT = "the transport is not offered; --rtsp-transport chooses another"


class SourceError(Exception):
    """The source can't be opened, breaks off before its end, or is damaged. The message is for people."""

    def __init__(self, message: str, reason: Reason = "other") -> None:
        super().__init__(message)
        self.reason: Reason = reason


def explained(error: Exception, waited_seconds: float, timeout_seconds: float | None) -> tuple[Reason, str]:
    """The reason of an error of PyAV, and its words.

    waited_seconds: how long the call that failed took. FFmpeg gives up a call that reaches its timeout, and may report
    anything then, "Invalid data" for one.
    """
    if timeout_seconds is not None and (isinstance(error, av.error.ExitError) or waited_seconds >= timeout_seconds):
        waited = f"{timeout_seconds:g}" if waited_seconds >= timeout_seconds else f"{waited_seconds:.1f}"
        return "timeout", f"nothing came for {waited} s"
    if getattr(error, "errno", None) == errno.EPROTONOSUPPORT:
        return "transport", _TRANSPORT
    for kind in type(error).__mro__:
        if kind in _OF_ERROR:
            return _OF_ERROR[kind]
    words = getattr(error, "strerror", None) or str(error)
    return ("unreadable" if isinstance(error, av.error.InvalidDataError) else "other"), words
