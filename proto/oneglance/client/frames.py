"""Answers as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from oneglance.answers import as_dataclass
from oneglance.client.answering import Answer

if TYPE_CHECKING:
    import pandas


def to_dataframe(answer: Message | Answer | Iterable[Message | Answer]) -> pandas.DataFrame:
    """A row for each result of ``identify``, encoding of ``encode``, pair of ``list_look_alikes`` and so on; for each
    of what ``list_...`` gives; for any other answer one.

    Values are those of ``as_dataclass``. What has fields of its own becomes a column for each, ``threshold.tau``,
    ``labels.site``. Raises ImportError without pandas.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_dataframe needs pandas: pip install pandas", name="pandas") from error
    rows = _rows(_read(answer)) if isinstance(answer, (Message, Answer)) else map(_read, answer)
    return pandas.DataFrame([_columns(row) for row in rows])


def _read(answer: Message | Answer) -> Answer:
    return as_dataclass(answer) if isinstance(answer, Message) else answer


def _rows(answer: Answer) -> Iterable[Any]:
    """What its first field lists, where that lists what has fields of its own; else the answer itself."""
    for name, hint in get_type_hints(type(answer)).items():
        listed = get_args(hint)[0] if get_origin(hint) is tuple else None
        if isinstance(listed, type) and issubclass(listed, Answer):
            found: tuple[Answer, ...] = getattr(answer, name)
            return found
        break
    return (answer,)


def _columns(row: Any, prefix: str = "") -> dict[str, Any]:
    pairs = row.items() if isinstance(row, dict) else [(field.name, getattr(row, field.name)) for field in fields(row)]
    found: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(value, (Answer, dict)):
            found |= _columns(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
