"""What a call's handler asks of gRPC's context, for a call that came by HTTP."""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import NoReturn

import grpc
from aiohttp import web

from oneglance.v1.error_pb2 import Error
from oneglance_server.errors import InvalidRequest
from oneglance_server.servicers.status import ERROR_KEY

_CONNECT_TIMEOUT, _GRPC_TIMEOUT = "connect-timeout-ms", "grpc-timeout"
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Aborted(Exception):
    """A handler ended its call with ``error``; ``trailers``: what gRPC would send of it."""

    def __init__(self, error: Error, trailers: tuple[tuple[str, bytes], ...]) -> None:
        super().__init__(error.message)
        self.error = error
        self.trailers = trailers


class HttpContext:
    """Of one call. ``send``: takes each answer of a stream. Raises InvalidRequest for a timeout that is none."""

    def __init__(self, request: web.BaseRequest, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._request = request
        self._send = send
        self._callbacks: list[Callable[[object], None]] = []
        timeout = _timeout(request)
        self.deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout

    def peer(self) -> str:
        """As gRPC names it: ``ipv4:127.0.0.1:51234``, ``ipv6:%5B::1%5D:51234``."""
        transport = self._request.transport
        name = transport.get_extra_info("peername") if transport is not None else None
        if not name:
            return "ipv4:gone"
        return f"ipv6:%5B{name[0]}%5D:{name[1]}" if ":" in name[0] else f"ipv4:{name[0]}:{name[1]}"

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [(name.lower(), value) for name, value in self._request.headers.items()]

    def auth_context(self) -> dict[str, list[bytes]]:
        """The client's certificate, which TLS has checked."""
        transport = self._request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        return {"x509_pem_cert": [ssl.DER_cert_to_PEM_cert(certificate).encode()]} if certificate else {}

    def time_remaining(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - asyncio.get_running_loop().time())

    async def write(self, answer: bytes) -> None:
        await self._send(answer)

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, bytes], ...] = ()
    ) -> NoReturn:
        error = Error(code=code.value[0], message=details)
        for key, value in trailing:
            if key == ERROR_KEY:
                error = Error.FromString(value)
        raise Aborted(error, trailing)

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._callbacks.append(callback)

    def done(self) -> None:
        """The caller has the answer, or left."""
        for callback in self._callbacks:
            callback(self)
        self._callbacks.clear()


def _timeout(request: web.BaseRequest) -> float | None:
    """Seconds; None: the caller names none."""
    text = request.headers.get(_CONNECT_TIMEOUT)
    if text is not None:
        if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
            return int(text) / 1000
        raise InvalidRequest.field(_CONNECT_TIMEOUT, "is a number of milliseconds of at most 10 digits")
    text = request.headers.get(_GRPC_TIMEOUT)
    if text is not None:
        found = re.fullmatch(r"([0-9]{1,8})([HMSmun])", text, re.ASCII)
        if found:
            return int(found[1]) * _UNITS[found[2]]
        raise InvalidRequest.field(_GRPC_TIMEOUT, "is a number of at most 8 digits and its unit: H, M, S, m, u or n")
    return None
