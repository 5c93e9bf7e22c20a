"""Texts that can't be sent: half a surrogate pair, as Python makes of file names that are no UTF-8."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from oneglance.client.errors import InvalidArgumentError

Kind = TypeVar("Kind", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


def names_bad_texts(kind: Kind) -> Kind:
    """A class decorator: public methods raise InvalidArgumentError, reason TEXT_INVALID, which names the argument."""
    for name, function in list(vars(kind).items()):
        if inspect.isfunction(function) and not name.startswith("_"):
            setattr(kind, name, names_bad_text(function))
    return kind


def names_bad_text(function: Function) -> Function:
    """The same for one function: a coroutine, a generator of either kind, or an ordinary one."""
    wrapped: Any

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def wrapped(*given: Any, **named: Any) -> AsyncIterator[Any]:
            try:
                async with contextlib.aclosing(function(*given, **named)) as answers:  # whoever leaves ends the call
                    async for one in answers:
                        yield one
            except UnicodeEncodeError as error:
                raise _named(function, given, named, error) from error

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped(*given: Any, **named: Any) -> Any:
            try:
                return await function(*given, **named)
            except UnicodeEncodeError as error:
                raise _named(function, given, named, error) from error

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapped(*given: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from function(*given, **named)
            except UnicodeEncodeError as error:
                raise _named(function, given, named, error) from error

    else:

        @functools.wraps(function)
        def wrapped(*given: Any, **named: Any) -> Any:
            try:
                return function(*given, **named)
            except UnicodeEncodeError as error:
                raise _named(function, given, named, error) from error

    made: Function = wrapped
    return made


def _named(function: Callable[..., Any], given: Any, named: Any, error: UnicodeEncodeError) -> InvalidArgumentError:
    arguments = inspect.signature(function).bind(*given, **named).arguments
    field = next((name for name, value in arguments.items() if _holds(value, error.object)), "")
    text = "holds a character that can't be sent: half a surrogate pair"
    return InvalidArgumentError(
        f"{field or 'a text'} {text}", reason="TEXT_INVALID", field_violations=[(field, text)] if field else []
    )


def _holds(value: object, text: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(one, text) for one in (*value, *value.values()))
    if isinstance(value, (list, tuple)):
        return any(_holds(one, text) for one in value)
    return isinstance(value, str) and text in value
