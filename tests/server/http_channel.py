"""A channel for the Python client that speaks JSON over HTTP: single calls as plain JSON, streams as Connect's."""

import base64
import contextlib
import http.client
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass

from oneglance import Client
from oneglance.client.errors import DETAIL_KEY
from oneglance_server.app import Server
from tests.waiting import PATIENCE_SECONDS

_CODES = {code.name.lower(): code for code in grpc.StatusCode} | {"canceled": grpc.StatusCode.CANCELLED}


class HttpError(grpc.RpcError):
    """What the body says of a refused call, as gRPC tells it."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told["message"])
        self._told = told

    def code(self) -> grpc.StatusCode:
        return _CODES[self._told["code"]]

    def details(self) -> str:
        return str(self._told["message"])

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:  # type: ignore[override]
        return tuple(
            (DETAIL_KEY, base64.b64decode(detail["value"] + "=="))
            for detail in self._told.get("details", ())
            if detail["type"] == "oneglance.v1.Error"
        )


class HttpChannel:
    """As much of grpc.Channel as Client needs."""

    def __init__(self, address: str) -> None:
        self._address = address

    def unary_unary(self, path: str, *_: object, **__: object) -> Callable[..., Any]:
        def call(request: Any, timeout: float | None = None, metadata: Iterable[tuple[str, str]] = ()) -> Any:
            body = self._post(path, "application/json", json_format.MessageToJson(request).encode(), metadata)
            return json_format.Parse(body, _answer(path))

        return call

    def stream_unary(self, path: str, *_: object, **__: object) -> Callable[..., Any]:
        def call(
            requests: Iterable[Any], timeout: float | None = None, metadata: Iterable[tuple[str, str]] = ()
        ) -> Any:
            return next(iter(self._stream(path, requests, metadata)))

        return call

    def stream_stream(self, path: str, *_: object, **__: object) -> Callable[..., Any]:
        return lambda requests, timeout=None, metadata=(): Answers(lambda: self._stream(path, requests, metadata))

    def close(self) -> None:
        pass

    def _stream(self, path: str, requests: Iterable[Any], metadata: Iterable[tuple[str, str]]) -> Iterator[Any]:
        texts = [json_format.MessageToJson(request).encode() for request in requests]
        body = b"".join(struct.pack(">BI", 0, len(text)) + text for text in texts)
        rest = self._post(path, "application/connect+json", body, metadata)
        while rest:
            flags, size = struct.unpack_from(">BI", rest)
            text, rest = rest[5 : 5 + size], rest[5 + size :]
            if flags & 2:
                assert not rest
                if error := json.loads(text).get("error"):
                    raise HttpError(error)
                return
            yield json_format.Parse(text, _answer(path))
        raise AssertionError("a stream without an end")

    def _post(self, path: str, kind: str, body: bytes, metadata: Iterable[tuple[str, str]]) -> bytes:
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=PATIENCE_SECONDS)) as connection:
            connection.request("POST", path, body, {"Content-Type": kind, **dict(metadata)})
            answer = connection.getresponse()
            data = answer.read()
        if answer.status != 200:
            raise HttpError(json.loads(data))
        return data


class Answers:
    """Of a stream. ``cancel`` does nothing: all is there already."""

    def __init__(self, ask: Callable[[], Iterator[Any]]) -> None:
        self._ask = ask

    def __iter__(self) -> Iterator[Any]:
        return self._ask()

    def cancel(self) -> None:
        pass


def http_client(server: Server, token: str | None = None) -> Client:
    """A Client of the server's HTTP port."""
    client = Client(server.address, token=token, timeout_seconds=PATIENCE_SECONDS)
    client._link._channel = HttpChannel(server.http_address)  # type: ignore[assignment]
    return client


def _answer(path: str) -> Any:
    method = descriptor_pool.Default().FindMethodByName(path[1:].replace("/", "."))
    return GetMessageClass(method.output_type)()
