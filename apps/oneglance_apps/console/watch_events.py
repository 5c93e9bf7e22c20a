"""The last events of ``oneglance watch``, read from the file that they are written to."""

import json
import os
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MOST_KEPT = 200
MOST_READ = 1 << 20  # bytes at a time: of a long file its end is enough

WatchEvent = dict[str, Any]
"""One event, as docs/watch-events.schema.json has it."""


class WatchEvents:
    """Follows a file of one JSON object per line, which may be made, cut or replaced meanwhile.

    events: the last ones that say something about somebody or something, the newest first, heartbeats not among them.
    heartbeats: the last of each source. changes: counts up with each event.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.events: deque[WatchEvent] = deque(maxlen=MOST_KEPT)
        self.heartbeats: dict[str, WatchEvent] = {}
        self.changes = 0
        self.is_there = False
        self.written: datetime | None = None
        self._inode = 0
        self._at = 0

    def read(self) -> None:
        """Take in what was added. A line that is no event is passed over; one that isn't whole yet waits."""
        try:
            with self.file.open("rb") as opened:
                status = os.fstat(opened.fileno())
                self.is_there = True
                self.written = datetime.fromtimestamp(status.st_mtime, UTC)
                if status.st_ino != self._inode or status.st_size < self._at:
                    self._inode, self._at = status.st_ino, 0
                if status.st_size == self._at:
                    return
                start = max(self._at, status.st_size - MOST_READ)
                opened.seek(start)
                added = opened.read(MOST_READ)
        except OSError:
            self.is_there = False
            return
        whole = added.rfind(b"\n") + 1
        lines = added[:whole].splitlines()
        if start > self._at and lines:
            del lines[0]  # its beginning was left out
        self._at = start + whole
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if not isinstance(event, dict) or not all(
            isinstance(event.get(key), str) for key in ("kind", "gallery", "source")
        ):
            return
        self.changes += 1
        if event["kind"] == "heartbeat":
            self.heartbeats[event["source"]] = event
        else:
            self.events.appendleft(event)
