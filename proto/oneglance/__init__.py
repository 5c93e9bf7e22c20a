"""oneglance: seen once, known after.

The client::

    from oneglance import Client, as_dataclass

    with Client("127.0.0.1:50051") as client:
        client.create_gallery("letters")
        client.enroll("letters", "alef", "alef.png")
        answer = client.identify("letters", "unknown.png")
        print(answer.results[0].subject_id or "unknown")
        print(as_dataclass(answer))  # all of it, for people

``AsyncClient`` has the same methods as coroutines. They return the messages of ``oneglance.v1``; ``as_dataclass`` makes
dataclasses of these, and ``to_dataframe`` tables. Importing this package does not import grpc or protobuf; using one of
its names does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from oneglance.answers import as_dataclass as as_dataclass
    from oneglance.client.async_client import AsyncClient as AsyncClient
    from oneglance.client.errors import AbortedError as AbortedError
    from oneglance.client.errors import AlreadyExistsError as AlreadyExistsError
    from oneglance.client.errors import ClientStateError as ClientStateError
    from oneglance.client.errors import DeadlineExceededError as DeadlineExceededError
    from oneglance.client.errors import FailedPreconditionError as FailedPreconditionError
    from oneglance.client.errors import InternalError as InternalError
    from oneglance.client.errors import InvalidArgumentError as InvalidArgumentError
    from oneglance.client.errors import NotFoundError as NotFoundError
    from oneglance.client.errors import OneglanceError as OneglanceError
    from oneglance.client.errors import PermissionDeniedError as PermissionDeniedError
    from oneglance.client.errors import ResourceExhaustedError as ResourceExhaustedError
    from oneglance.client.errors import UnauthenticatedError as UnauthenticatedError
    from oneglance.client.errors import UnavailableError as UnavailableError
    from oneglance.client.frames import to_dataframe as to_dataframe
    from oneglance.client.requests import encoded_subject as encoded_subject
    from oneglance.client.requests import encoding as encoding
    from oneglance.client.requests import enroll_request as enroll_request
    from oneglance.client.requests import identify_request as identify_request
    from oneglance.client.requests import keyed as keyed
    from oneglance.client.requests import mate as mate
    from oneglance.client.requests import photo as photo
    from oneglance.client.requests import retention as retention
    from oneglance.client.requests import sound as sound
    from oneglance.client.requests import stranger as stranger
    from oneglance.client.requests import stream_settings as stream_settings
    from oneglance.client.requests import stylize_settings as stylize_settings
    from oneglance.client.requests import subject_filter as subject_filter
    from oneglance.client.requests import tensor as tensor
    from oneglance.client.sync_client import Client as Client
    from oneglance.client.tls import tls_credentials as tls_credentials

_HOMES = {
    "AsyncClient": "oneglance.client.async_client",
    "Client": "oneglance.client.sync_client",
    "as_dataclass": "oneglance.answers",
    "AbortedError": "oneglance.client.errors",
    "AlreadyExistsError": "oneglance.client.errors",
    "ClientStateError": "oneglance.client.errors",
    "DeadlineExceededError": "oneglance.client.errors",
    "FailedPreconditionError": "oneglance.client.errors",
    "InternalError": "oneglance.client.errors",
    "InvalidArgumentError": "oneglance.client.errors",
    "NotFoundError": "oneglance.client.errors",
    "OneglanceError": "oneglance.client.errors",
    "PermissionDeniedError": "oneglance.client.errors",
    "ResourceExhaustedError": "oneglance.client.errors",
    "UnauthenticatedError": "oneglance.client.errors",
    "UnavailableError": "oneglance.client.errors",
    "encoding": "oneglance.client.requests",
    "encoded_subject": "oneglance.client.requests",
    "enroll_request": "oneglance.client.requests",
    "retention": "oneglance.client.requests",
    "identify_request": "oneglance.client.requests",
    "keyed": "oneglance.client.requests",
    "mate": "oneglance.client.requests",
    "photo": "oneglance.client.requests",
    "sound": "oneglance.client.requests",
    "stranger": "oneglance.client.requests",
    "stream_settings": "oneglance.client.requests",
    "stylize_settings": "oneglance.client.requests",
    "subject_filter": "oneglance.client.requests",
    "tensor": "oneglance.client.requests",
    "tls_credentials": "oneglance.client.tls",
    "to_dataframe": "oneglance.client.frames",
}
__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AsyncClient",
    "Client",
    "ClientStateError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OneglanceError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "__version__",
    "as_dataclass",
    "encoded_subject",
    "encoding",
    "enroll_request",
    "identify_request",
    "keyed",
    "mate",
    "photo",
    "retention",
    "sound",
    "stranger",
    "stream_settings",
    "stylize_settings",
    "subject_filter",
    "tensor",
    "tls_credentials",
    "to_dataframe",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("oneglance")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
