"""The protocols of Connect and gRPC-Web: which one a request speaks, and how answers and errors are put in it.

https://connectrpc.com/docs/protocol and https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

import base64
import json
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf import json_format
from google.rpc.status_pb2 import Status

from oneglance.v1.error_pb2 import Error
from oneglance_server.errors import RETRY_AFTER
from oneglance_server.http.context import Aborted
from oneglance_server.servicers.status import ERROR_KEY, STATUS_KEY

_CONNECT_END, _WEB_END = 0x02, 0x80  # flags of the last envelope
HEADER = struct.Struct(">BI")  # of an envelope: flags, bytes
COMPRESSED = 0x01

_HTTP_STATUS = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}
_NAMES = {code.value[0]: code.name.lower() for code in grpc.StatusCode} | {1: "canceled"}


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a request is spoken. json: in JSON, else in encoded messages. envelopes: each message stands in one."""

    content_type: str
    json: bool
    envelopes: bool
    web: bool = False

    def envelope(self, message: bytes) -> bytes:
        return HEADER.pack(0, len(message)) + message

    def end(self, aborted: Aborted | None) -> bytes:
        """The last envelope, which says how the call ended."""
        if not self.web:
            body = json.dumps({} if aborted is None else {"error": error_json(aborted)}).encode()
            return HEADER.pack(_CONNECT_END, len(body)) + body
        told: list[tuple[str, str]] = [("grpc-status", str(0 if aborted is None else aborted.error.code))]
        if aborted is not None:
            told.append(("grpc-message", quote(aborted.error.message, safe=" ")))
            told += [(key, base64.b64encode(value).decode()) for key, value in aborted.trailers]
        body = "".join(f"{key}: {value}\r\n" for key, value in told).encode()
        return HEADER.pack(_WEB_END, len(body)) + body


_SINGLE = (Protocol("application/json", True, False), Protocol("application/proto", False, False))
_STREAMS = (Protocol("application/connect+json", True, True), Protocol("application/connect+proto", False, True))
_WEB = (
    Protocol("application/grpc-web", False, True, web=True),
    Protocol("application/grpc-web+proto", False, True, web=True),
    Protocol("application/grpc-web+json", True, True, web=True),
)


def protocols(*, stream: bool) -> dict[str, Protocol]:
    """Those of a method, by content type."""
    return {one.content_type: one for one in ((*_STREAMS, *_WEB) if stream else (*_SINGLE, *_WEB))}


def http_status(error: Error) -> int:
    return _HTTP_STATUS[_NAMES.get(error.code, "unknown")]


def error_json(aborted: Aborted) -> dict[str, Any]:
    """As Connect writes errors. The first detail is ours, also to be read as it is, in ``debug``."""
    error = aborted.error
    told: dict[str, Any] = {"code": _NAMES.get(error.code, "unknown"), "message": error.message}
    details = []
    for key, value in aborted.trailers:
        if key == ERROR_KEY:
            debug = json_format.MessageToDict(error)
            details.append({"type": Error.DESCRIPTOR.full_name, "value": _base64(value), "debug": debug})
        elif key == STATUS_KEY:
            details += [
                {"type": one.type_url.rpartition("/")[2], "value": _base64(one.value)}
                for one in Status.FromString(value).details
            ]
    if details:
        told["details"] = details
    return told


def retry_after_seconds(error: Error) -> str | None:
    """For the header Retry-After: whole seconds, at least one."""
    text = error.metadata.get(RETRY_AFTER, "")
    return str(max(1, -(-int(text) // 1000))) if text.isdecimal() else None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
