"""Answers as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

if TYPE_CHECKING:
    import pandas


def to_dataframe(answer: Message | Iterable[Message]) -> pandas.DataFrame:
    """A row for each message: of an answer's list, as the results of ``identify``; or of what ``list_...`` gives.

    Fields of a message inside have a column each, ``threshold.tau``. Raises ImportError without pandas.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_dataframe needs pandas: pip install pandas", name="pandas") from error
    rows = _rows(answer) if isinstance(answer, Message) else answer
    return pandas.json_normalize([_fields(row) for row in rows])


def _rows(answer: Message) -> Iterable[Message]:
    """Its first list of messages; the answer itself where it has none."""
    for field in answer.DESCRIPTOR.fields:
        if field.is_repeated and field.message_type is not None and not field.message_type.GetOptions().map_entry:
            found: Iterable[Message] = getattr(answer, field.name)
            return found
    return (answer,)


def _fields(row: Message) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(
        row, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found
