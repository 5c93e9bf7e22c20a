"""The port on which HTTP is served: connections, TLS, who may call from web pages, and which method is meant."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from oneglance_server.access.tls import Certificates
from oneglance_server.errors import InvalidRequest, PermissionDenied, StartupError
from oneglance_server.http.calls import Calls, refused
from oneglance_server.listening import why_not
from oneglance_server.settings import Settings

DOCUMENT = Path(__file__).with_name("openapi.json")  # scripts/openapi.py makes it of the .proto files
_HANDSHAKE_SECONDS = 10.0
_FIRST_REQUEST_SECONDS = 10.0  # who connects and says nothing takes a connection from others
_LINGER_SECONDS = 1.0  # the rest of a body that is refused is read for so long, so that its sender reads why
_CLOSING_SECONDS = 0.2
_PART_BYTES = 16 << 10  # of a body of chunks of one byte each, what is looked through in one turn of the loop
_PREFLIGHT_SECONDS = 7200  # a browser need not ask again
_ALLOWED_HEADERS = (
    "authorization, content-type, content-encoding, connect-protocol-version, connect-timeout-ms, "
    "connect-content-encoding, connect-accept-encoding, grpc-timeout, x-grpc-web, x-user-agent"
)
_ALWAYS = {"Server": "oneglance", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class HttpListener:
    """Serves calls over HTTP/1.1 until it is closed. Belongs to one event loop.

    Args:
        certificates: for TLS; None: without.
        calls: carries them out.
        shares_port: other processes listen on it, too.
    """

    def __init__(
        self, settings: Settings, certificates: Certificates | None, calls: Calls, shares_port: bool = False
    ) -> None:
        self._shares_port = shares_port
        self.address = settings.http
        self._settings = settings
        self._certificates = certificates
        self._calls = calls
        self._document = DOCUMENT.read_bytes()
        self._server = web.Server(self._handle, handler_cancellation=True)
        self._logger = _logger()
        self._silent: set[web.RequestHandler] = set()  # connections without a request so far
        self._served: tuple[bytes, bytes, bytes | None] | None = None
        self._socket: socket.socket | None = None
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; ``address`` then says where. Raises StartupError."""
        host, _, port = self._settings.http.rpartition(":")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, number, _, address = found[0]
            self._socket = _Socket(family, kind, number)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._shares_port:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(address)
            self.address = f"{host}:{self._socket.getsockname()[1]}"
            await self.look()
        except OSError as error:
            raise StartupError(f"can't serve HTTP on {self._settings.http}: {why_not(self._settings.http)}") from error

    async def look(self) -> None:
        """Serve new certificates, if there are: connections that are open keep theirs."""
        loop = asyncio.get_running_loop()
        fresh = await loop.run_in_executor(None, self._certificates.look) if self._certificates is not None else None
        if self._socket is None or (self._listening is not None and fresh == self._served):
            return
        former, self._served = self._listening, fresh
        self._listening = await loop.create_server(
            self._connection,
            sock=self._socket.dup(),
            ssl=_tls(*fresh) if fresh is not None else None,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if fresh is not None else None,
        )
        if former is not None:
            former.close()

    async def close(self) -> None:
        """No call is under way any more; those that are left are cut off."""
        if self._listening is not None:
            self._listening.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        await self._server.shutdown(_CLOSING_SECONDS)

    def _connection(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._settings.max_connections:
            return _TooMany()
        connection = _Connection(
            self._server,
            loop=asyncio.get_running_loop(),
            auto_decompress=False,  # Parser does it, once there is room
            keepalive_timeout=self._settings.connection_idle_seconds,
            lingering_time=_LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's Server allows None
            logger=self._logger,
        )
        self._silent.add(connection)
        asyncio.get_running_loop().call_later(_FIRST_REQUEST_SECONDS, self._close_silent, connection)
        return connection

    def _close_silent(self, connection: web.RequestHandler) -> None:
        if connection in self._silent:
            self._silent.discard(connection)
            connection.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        # aiohttp runs all requests of a connection in one task; whose call it is must not outlive it.
        return await asyncio.create_task(self._answer(request))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not all(map(_is_utf8, request.headers.values())):
            return refused(InvalidRequest("a header is not UTF-8", reason="MALFORMED"), _ALWAYS)
        headers = {**_ALWAYS, **self._of_origin(request)}
        origin = request.headers.get("Origin")
        if origin is not None and "Access-Control-Allow-Origin" not in headers:
            error = PermissionDenied(
                f"pages of {origin[:200]} may not call this server: see --http-origins", reason="ORIGIN_DENIED"
            )
            return refused(error, headers)
        if request.method == "OPTIONS" and origin is not None:
            headers |= {
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
                "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
            }
            return web.Response(status=204, headers=headers)
        if request.path == "/openapi.json" and request.method == "GET":
            return web.Response(body=self._document, content_type="application/json", headers=headers)
        return await self._calls.answer(request, headers)

    def _of_origin(self, request: web.BaseRequest) -> Mapping[str, str]:
        allowed, origin = self._settings.http_origins, request.headers.get("Origin")
        if not allowed or (origin not in allowed and "*" not in allowed):
            return {"Vary": "Origin"} if allowed else {}
        return {
            "Access-Control-Allow-Origin": "*" if "*" in allowed else origin or "",
            "Access-Control-Expose-Headers": "Retry-After",
            "Vary": "Origin",
        }


def _logger() -> logging.Logger:
    """aiohttp's, without those who don't speak HTTP: they are answered 400."""
    logger = logging.getLogger("oneglance.http")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _is_utf8(text: str) -> bool:
    """aiohttp makes half a surrogate pair of each byte that is not: no message and no log takes such a text."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


class _Socket(socket.socket):
    """Takes what comes in small parts. The event loop reads 256 KiB at once, which may be 43,000 chunks of one byte:
    nobody else would be served for a second."""

    def accept(self) -> tuple[socket.socket, Any]:
        accepted, address = super().accept()
        return _Socket(fileno=accepted.detach()), address

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        return super().recv(min(size, _PART_BYTES), flags)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0, /) -> int:
        return super().recv_into(buffer, min(size or len(buffer), _PART_BYTES), flags)


class _Connection(web.RequestHandler):
    """Answers what is no HTTP, and what we fail at, as everything else: without what it is that serves."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs it; raises when an answer has begun
        error = InvalidRequest("the request is no HTTP", reason="MALFORMED") if status < 500 else RuntimeError()
        response = refused(error, _ALWAYS)
        response.force_close()
        return response


class _TooMany(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.abort()  # type: ignore[attr-defined]


def _tls(certificate: bytes, key: bytes, authority: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file = os.memfd_create("oneglance-tls", os.MFD_CLOEXEC)  # ssl reads them from files only
    try:
        os.write(file, key + b"\n" + certificate)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    if authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority.decode())
    return context
