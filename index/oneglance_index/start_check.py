"""What a start may leave for later: whether every row of the store is sound, and that nothing is left of what was
deleted before, keys above all.

An index has the encodings that the store counts before it answers; each row that is read for an answer is checked by
itself. Whether another row was changed, dropped or doubled shows when all are added up, which takes several times as
long as loading the indexes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from oneglance_core.error_words import in_words
from oneglance_index.errors import StoreClosed, StoreDamaged
from oneglance_index.records import Integers
from oneglance_index.search import snapshot
from oneglance_index.search.rows import trim
from oneglance_index.store import queries
from oneglance_index.store.database import Store
from oneglance_index.store.disk import not_for_long
from oneglance_index.store.mutations import ForgetSnapshot
from oneglance_index.store.seals import damaged
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.store.store_row import check_others
from oneglance_index.store.subjects import Subjects, all_subjects, check_counts
from oneglance_index.threads import started

log = logging.getLogger(__name__)

# Of SQLite's virtual machine, between two questions whether to go on: a millisecond or so.
_STEPS = 10_000
_RETRY_SECONDS = 60.0


class StartCheck:
    """`leftovers`: files of snapshots that no row vouched for at the start."""

    def __init__(self, store: Store, leftovers: list[Path]) -> None:
        self._store = store
        self._leftovers = leftovers
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.done = False
        self.fault: StoreDamaged | None = None

    def run(self) -> None:
        """Raises StoreDamaged, StoreError, and StoreClosed where it is ended before it is done."""
        named, last = self._check()
        keys = self._store.keys
        for gallery, slots in named.items():  # before anything is removed
            with contextlib.suppress(KeyDestroyed):  # with its gallery, meanwhile
                keys.of(gallery).check_names(slots)
        self.remove_leftovers()
        # A process may have died between a deletion and this.
        with keys.changing(self._waits_on):
            keys.keep_only(named, last)
        for gallery, slots in named.items():
            self._go_on()
            # One by one: a deletion waits for no more.
            with keys.changing(self._waits_on), contextlib.suppress(KeyDestroyed):
                keys.of(gallery).destroy_others(slots)
        self.done = True
        trim()  # what millions of rows took

    def remove_leftovers(self) -> None:
        """Before any snapshot is taken, which may get the name of one. Raises StoreIOError."""
        snapshot.remove(self._leftovers)
        self._leftovers = []

    def _waits_on(self, waited: float) -> bool:
        return not self._ending.is_set() and not_for_long(waited)

    def _check(self) -> tuple[dict[int, Integers], int]:
        """The slots that rows name, by gallery, and the number of the last gallery there ever was."""
        named: dict[int, Integers] = {}
        mixed: list[int] = []
        with self._store.reading() as db:
            db.set_progress_handler(self._ending.is_set, _STEPS)
            try:
                check_others(db)
                if queries.has_strays(db):
                    raise damaged(db, "there are encodings of a subject that isn't there")
                everybody = all_subjects(db, self._go_on)
                for stored in queries.all_galleries(db):
                    self._go_on()
                    number, generation = stored.place.number, stored.place.generation
                    subjects = everybody.pop(number, Subjects())
                    check_counts(db, stored, subjects)
                    blocks = np.array([block.slot for block in queries.blocks(db, generation)], np.int64)
                    if np.isin(blocks, subjects.slots).any():
                        mixed.append(generation)
                        blocks = blocks[:0]
                    named[number] = np.concatenate([subjects.slots, blocks])
                last = queries.last_gallery(db)
            except Exception:
                self._go_on()  # else it is interrupted because it is to end
                raise
            finally:
                db.set_progress_handler(None, 0)
        for generation in mixed:
            log.warning("the snapshot of generation number %d is not used: a block has a subject's key", generation)
            self._store.write(ForgetSnapshot(generation), self, patient=True).result()
        return named, last

    def _go_on(self) -> None:
        if self._ending.is_set():
            raise StoreClosed(self._store.path)

    def trouble(self) -> str | None:
        """What is wrong with the store, as far as it is known; None where all is well."""
        return None if self.fault is None else str(self.fault)

    def begin(self, when: Callable[[], None]) -> None:
        """Runs in a thread of its own, once `when` returns. Raises MemoryError."""
        self._thread = started("check", self._loop, when)

    def _loop(self, when: Callable[[], None]) -> None:
        when()
        while not self._ending.is_set():
            try:
                self.run()
                return
            except StoreClosed:
                return
            except StoreDamaged as error:
                log.error("the store is damaged: no more is answered or written: %s", error)
                self.fault = error
                return
            except Exception as error:  # want of memory, or a disk that fails, say
                log.warning("checking the store failed, and is tried again: %s", in_words(error))
                self._ending.wait(_RETRY_SECONDS)

    def stop(self, wake: Callable[[], None]) -> None:
        """Ends it, soon. `wake`: ends the waiting of begin()."""
        self._ending.set()
        wake()
        if self._thread is not None:
            self._thread.join()
