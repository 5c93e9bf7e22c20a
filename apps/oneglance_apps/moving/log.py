"""What came of an export so far: whole messages, one behind the other, so that it goes on after a kill."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from oneglance.v1.moving_pb2 import ExportGalleryResponse

_HEAD = struct.Struct("<II")  # bytes, CRC-32


class MessageLog:
    """Opens or makes the file; a last message that isn't whole is cut off."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._file.truncate(max((end for end, _ in self.messages()), default=0))

    def messages(self) -> Iterator[tuple[int, ExportGalleryResponse]]:
        """With the position behind each."""
        self._file.flush()
        self._file.seek(0)
        position = 0
        while len(head := self._file.read(_HEAD.size)) == _HEAD.size:
            size, sum_of = _HEAD.unpack(head)
            content = self._file.read(size)
            if len(content) != size or zlib.crc32(content) != sum_of:
                return
            position += _HEAD.size + size
            yield position, ExportGalleryResponse.FromString(content)
            self._file.seek(position)

    def add(self, message: ExportGalleryResponse) -> None:
        content = message.SerializeToString()
        self._file.seek(0, 2)
        self._file.write(_HEAD.pack(len(content), zlib.crc32(content)) + content)
        self._file.flush()

    def close(self) -> None:
        self._file.close()
