"""The rows of a Parquet file: of each its label, and a path, the content of a file, or an array.

Columns: "label", and one of

    path            text: a file, from the Parquet file's folder on
    bytes, image    binary: the content of a picture or of a .npy file; or a struct that has it as "bytes", as data
                    sets of Hugging Face have
    input           numbers: a list, nested for several axes, or Arrow's tensors; with a column "shape", a flat list

The type of the column decides, not which of the names it has.
"""

import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.archives import ALWAYS_BYTES, MOST_GROWTH
from oneglance_exporter.errors import DataError

_CONTENT = ("path", "bytes", "image", "input")
_ROWS = 64  # that are held at a time
_MOST_HELD_BYTES = 1 << 30
_MOST_ROWS = 50_000_000

Content = Callable[[Any, Any], str | bytes | npt.NDArray[Any]]
"""From a row's cell, and that of its column "shape", which may be None."""


@dataclass(frozen=True, slots=True)
class Row:
    """Either ``path`` is there, or ``read``, which returns a file's content or an array. number: from 0."""

    number: int
    label: str
    path: str | None
    read: Callable[[], bytes | npt.NDArray[Any]] | None


def read_rows(file: Path) -> Iterator[Row]:
    """Contents lie in a file without a name until they are read, since rows are compressed many together.

    Raises DataError for a file that can't be read, other columns, a row without a label, and a full disk; ``Row.read``
    for a row without content.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise DataError(f"{file}: pip install 'oneglance[parquet]' for Parquet") from error
    try:
        with parquet.ParquetFile(file) as table:
            _check_growth(file, table.metadata)
            schema = table.schema_arrow
            column = _content_column(file, schema.names)
            columns = [name for name in ("label", column, "shape") if name in schema.names]
            content = _contents(arrow, file, column, schema.field(column).type)
            store = _Store()
            number = 0
            for batch in table.iter_batches(_rows_at_once(table.metadata), columns=columns):
                given = {name: batch.column(name) for name in columns}
                for at in range(batch.num_rows):
                    row = {name: values[at] for name, values in given.items()}
                    yield _row(file, number, row, row[column], content, store)
                    number += 1
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: can't be read: {str(error).splitlines()[0]}") from error


def _check_growth(file: Path, metadata: Any) -> None:
    """Raises DataError for a file that claims more than it can hold."""
    size = file.stat().st_size
    claimed = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if metadata.num_rows > _MOST_ROWS or claimed > max(ALWAYS_BYTES, MOST_GROWTH * size):
        raise DataError(
            f"{file}: {size:,} bytes that claim to be {metadata.num_rows:,} rows of {claimed:,} bytes: too much to be"
            " believed"
        )


def _rows_at_once(metadata: Any) -> int:
    """So few that even where all rows are one large value, which a dictionary holds once, they are not too much."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    largest = max((chunk.total_uncompressed_size for chunk in chunks if chunk.has_dictionary_page), default=0)
    return max(1, min(_ROWS, _MOST_HELD_BYTES // max(1, largest)))


def _content_column(file: Path, names: list[str]) -> str:
    there = [name for name in _CONTENT if name in names]
    if "label" not in names or len(there) != 1:
        raise DataError(
            f"{file}: needs the column label, and one of {', '.join(_CONTENT)}; has {', '.join(names) or 'none'}"
        )
    return there[0]


def _contents(arrow: Any, file: Path, column: str, kind: Any) -> Content:
    types = arrow.types
    if types.is_string(kind) or types.is_large_string(kind):
        return lambda cell, shape: _text(cell.as_py())
    if types.is_binary(kind) or types.is_large_binary(kind):
        return lambda cell, shape: bytes(cell.as_py())
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return lambda cell, shape: bytes(cell["bytes"].as_py())
    if isinstance(kind, arrow.FixedShapeTensorType):
        return lambda cell, shape: np.asarray(cell.to_numpy())
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return lambda cell, shape: _array(cell.values) if shape is None else _array(cell.values).reshape(shape.as_py())
    raise DataError(f"{file}: the column {column} is {kind}: neither text, nor binary, nor numbers")


def _text(found: str | None) -> str:
    if not found:
        raise ValueError("an empty path")
    return found


def _array(values: Any) -> npt.NDArray[Any]:
    """Of Arrow's array of numbers, or of lists of them."""
    if hasattr(values, "flatten") and hasattr(values.type, "value_type"):
        return np.stack([_array(one.values) for one in values])
    found: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return found


def _row(file: Path, number: int, row: dict[str, Any], cell: Any, content: Content, store: "_Store") -> Row:
    label = str(row["label"].as_py()).strip() if row["label"].is_valid else ""
    if not label:
        raise DataError(f"{file}: row {number} has no label")
    try:
        found = content(cell, row.get("shape"))
        if not isinstance(found, str | bytes) and found.dtype.hasobject:
            raise ValueError(f"numbers are needed, got {found.dtype}")
    except (TypeError, ValueError, AttributeError) as error:  # nothing inside, lists of several lengths, another shape
        words = f"no content: {error}" if cell.is_valid else "no content"
        return Row(number, label, None, partial(_broken, f"{file}: row {number} has {words}"))
    if isinstance(found, str):
        return Row(number, label, found, None)
    if isinstance(found, bytes):
        return Row(number, label, None, partial(store.read, *store.add(found)))
    where = store.add(np.ascontiguousarray(found).tobytes())
    return Row(number, label, None, partial(store.read_array, *where, found.dtype, found.shape))


def _broken(words: str) -> bytes:
    """To be told when the row is read, as of any file that can't be used."""
    raise DataError(words)


class _Store:
    """A file without a name, which goes with the last row that lies in it."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._end = 0

    def add(self, content: bytes) -> tuple[int, int]:
        """Where it starts, and its length. Raises OSError."""
        start = self._end
        while self._end < start + len(content):
            self._end += os.pwrite(self._file, memoryview(content)[self._end - start :], self._end)
        return start, len(content)

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._file, length, start)

    def read_array(self, start: int, length: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return np.frombuffer(self.read(start, length), dtype).reshape(shape)
