"""What goes between a keeper of galleries and who uses them, as MessagePack: the calls of GalleryStore and of Beside,
made from their annotations, and what is told besides.

Both sides must be of the same code: see code.py.
"""

from __future__ import annotations

import functools
import operator
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from inspect import Parameter, signature
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Protocol, Union, get_args, get_origin

import msgspec
import numpy as np

from oneglance_index.approximation import ApproximationState
from oneglance_index.audit import Actor
from oneglance_index.errors import GalleryError
from oneglance_index.protocol import GalleryStore
from oneglance_index.records import Doubt, Gallery
from oneglance_server.errors import BackupsOff, InvalidRequest, Overloaded
from oneglance_server.sharing.beside import Beside

METHOD = "/oneglance.Keeper/Use"
# What a user shows: its code(); the keeper's token; and who it is, by a word of its own, the same as it comes back.
CODE_KEY, TOKEN_KEY, USER_KEY = "oneglance-code", "authorization", "oneglance-user"
# Calls and answers that go in one message: others follow in the next.
_MESSAGE_BYTES = 8 << 20
# What is answered from what was told before (known, approximation_state ...), and what can't go to another process.
_AT_HOME = {"close", "queued_writes", "trouble", "known", "approximation_state", "back_up"}


class Fault(msgspec.Struct, array_like=True, frozen=True):
    """An exception: the name of its class, "" for one that nobody is to handle; its text; and its fields."""

    kind: str
    text: str
    fields: dict[str, Any]


class Call(msgspec.Struct, array_like=True, frozen=True):
    """A call of a method, by its caller's number for it; `actor` is who acts (audit.acting)."""

    number: int
    method: str
    actor: Actor | None
    arguments: msgspec.Raw


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """Of a call: its result, or what it raised."""

    number: int
    result: msgspec.Raw
    fault: Fault | None = None


class Granted(msgspec.Struct, array_like=True, frozen=True):
    """What is told is true for `seconds` from when hello `hello` was said; and how the keeper is."""

    hello: int
    seconds: float
    device: str
    sound: bool
    trouble: str | None
    queued_writes: int
    backs_up: bool
    approximations: dict[str, ApproximationState]


class Spent(msgspec.Struct, array_like=True, frozen=True):
    """What callers of this name spent of a quota, elsewhere: so much of what `rate` allows of `kind`."""

    rate: str
    kind: str
    name: str
    amount: int


class Asked(msgspec.Struct, array_like=True, frozen=True):
    """From a user: new calls, in order, and those whose callers left; the last news that it has heard of; a hello, by
    its number, which asks to be granted more time (0: none, BYE: it uses nothing any more); what its callers spent."""

    calls: list[Call]
    left: list[int]
    heard: int
    hello: int
    spent: list[Spent]


class Told(msgspec.Struct, array_like=True, frozen=True):
    """To a user: galleries that are new or changed since, or (None) gone, and the number of that news; then answers.
    `files`: those that are new or changed since. `anew`: these are all there are. `spent`: by the callers of others."""

    galleries: list[tuple[str, Gallery | None]]
    files: dict[str, bytes]
    news: int
    answers: list[Answer]
    granted: Granted | None
    anew: bool
    spent: list[Spent]


class Spending(Protocol):
    """Counts what callers spend of their quotas. From any thread, and quick."""

    def take(self) -> list[Spent]:
        """What was spent here since the last time."""

    def spent_elsewhere(self, spent: Sequence[Spent]) -> None: ...


class NoQuotas:
    """Where nobody has a quota."""

    def take(self) -> list[Spent]:
        return []

    def spent_elsewhere(self, spent: Sequence[Spent]) -> None:
        pass


def at_once(waiting: list[Any], size: Callable[[Any], int]) -> int:
    """How many of those that wait go in one message."""
    total = 0
    for count, one in enumerate(waiting):
        total += size(one)
        if total > _MESSAGE_BYTES:
            return max(count, 1)
    return len(waiting)


BYE = -1
CANCELLED = Fault("cancelled", "", {})


class Method(NamedTuple):
    """`arguments` is made of those of a call; `read_arguments` and `read_result` read what was sent."""

    writes: bool
    arguments: Callable[..., msgspec.Struct]
    read_arguments: Callable[[msgspec.Raw], msgspec.Struct]
    read_result: Callable[[msgspec.Raw], Any]


def _sent(value: Any) -> Any:
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.dtype.str, value.shape, np.ascontiguousarray(value).data
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseException):
        return fault_of(value)
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value)} can't be sent")


def _received(kind: Any, value: Any) -> Any:
    if (get_origin(kind) or kind) is np.ndarray:
        if isinstance(value, list) and value and isinstance(value[-1], bytes):
            dtype, shape, data = value
            return np.frombuffer(data, dtype).reshape(shape)
        return np.asarray(value)  # a caller's list
    if kind is Path:
        return Path(value)
    if kind is object:
        return value
    raise NotImplementedError(f"{kind} can't be received")


encoded = msgspec.msgpack.Encoder(enc_hook=_sent).encode
read_asked = msgspec.msgpack.Decoder(Asked, dec_hook=_received).decode
read_told = msgspec.msgpack.Decoder(Told, dec_hook=_received).decode


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(encoded(value))


def _all_errors(kind: type[Exception]) -> dict[str, type[Exception]]:
    found = {kind.__name__: kind}
    for one in kind.__subclasses__():
        found |= _all_errors(one)
    return found


_ERRORS: dict[str, type[Exception]] = {
    **_all_errors(GalleryError),
    **{kind.__name__: kind for kind in (BackupsOff, InvalidRequest, Overloaded, TypeError, ValueError)},
}
# Fields of errors that are neither plain nor tuples of what is.
_FIELDS: dict[str, Any] = {"path": Path, "doubts": tuple[Doubt, ...]}


def fault_of(error: BaseException) -> Fault:
    name = type(error).__name__
    if isinstance(error, msgspec.ValidationError):  # arguments that make no sense
        return Fault("ValueError", str(error), {})
    if name not in _ERRORS:
        return Fault("", f"{name}: {error}", {})
    return Fault(name, str(error), vars(error))


def error_of(fault: Fault) -> Exception:
    """As it was raised, but for what it was raised from."""
    kind = _ERRORS.get(fault.kind)
    if kind is None:
        return RuntimeError(f"the keeper of the galleries failed: {fault.text}")
    error: Exception = BaseException.__new__(kind)
    error.args = (fault.text,)
    for name, value in fault.fields.items():
        if name in _FIELDS:
            value = msgspec.convert(value, _FIELDS[name], dec_hook=_received)
        setattr(error, name, tuple(value) if isinstance(value, list) else value)
    return error


def _with_errors(result: Any) -> Any:
    """The result with exceptions in the place of faults."""
    return [error_of(one) if isinstance(one, Fault) else one for one in result]


def _on_the_way(kind: Any) -> Any:
    """What a result is on its way: exceptions are faults."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Future:
        return _on_the_way(parts[0])
    if origin in (Union, UnionType):
        sent = [Fault if isinstance(one, type) and issubclass(one, Exception) else one for one in parts]
        return functools.reduce(operator.or_, sent)
    return list[_on_the_way(parts[0])] if origin is list else kind  # type: ignore[misc]


def _method(name: str, function: Callable[..., Any]) -> Method:
    kinds = typing.get_type_hints(function)
    fields: list[Any] = []
    for one in list(signature(function).parameters.values())[1:]:
        kind = Any if kinds[one.name] is Hashable else kinds[one.name]
        fields.append((one.name, kind) if one.default is Parameter.empty else (one.name, kind, one.default))
    arguments = msgspec.defstruct(name, fields, array_like=True, frozen=True)
    result = _on_the_way(kinds["return"])
    decode = msgspec.msgpack.Decoder(result, dec_hook=_received).decode
    faulty = get_origin(result) is list and Fault in get_args(get_args(result)[0])
    return Method(
        get_origin(kinds["return"]) is Future,
        arguments,
        msgspec.msgpack.Decoder(arguments, dec_hook=_received).decode,
        (lambda data: _with_errors(decode(data))) if faulty else decode,
    )


OF_BESIDE = {name for name, function in vars(Beside).items() if callable(function) and not name.startswith("_")}
METHODS = {
    name: _method(name, function)
    for name, function in {**vars(GalleryStore), **vars(Beside)}.items()
    if callable(function) and not name.startswith("_") and name not in _AT_HOME
}
