"""Holding up the writer of galleries, so that what is queued meanwhile waits, or is committed together."""

from __future__ import annotations

import sqlite3
import threading

from oneglance_index import LocalGalleries
from oneglance_index.store.mutations import Applied
from tests.waiting import PATIENCE_SECONDS, until


class Hold:
    """The writer stands from when this is made until `end` is set."""

    def __init__(self, galleries: LocalGalleries) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        galleries._store.write(self)
        until(self.begun.is_set)

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        self.begun.set()
        assert self.end.wait(PATIENCE_SECONDS)
        return Applied(None)
