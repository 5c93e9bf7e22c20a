"""The thread that destroys keys: what is deleted is answered for once its keys are nowhere on the disk.

A thread of its own, since other writes shall not wait for it: it waits for the disk, and for a backup that is copying
the keys.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress

from oneglance_core.error_words import in_words
from oneglance_index.errors import OutOfMemory
from oneglance_index.store import disk
from oneglance_index.store.keys import Keys
from oneglance_index.store.rekeying import Destroyed
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.threads import started

log = logging.getLogger(__name__)

# Called with None once the keys are destroyed, else with what went wrong.
Settle = Callable[[Exception | None], None]
_Job = tuple[Sequence[Destroyed], Settle]
# After a failure.
_RETRY_SECONDS = 1.0


class Destroyer:
    """Destroys keys of `keys` until close(). What fails is tried again, until it is done."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._due: list[Destroyed] = []
        self._failure: str | None = None
        self._waited = 0.0  # seconds, for the lock of the keys
        self._closing = False
        self._thread = started("destroyer", self._loop)

    def submit(self, destroyed: Sequence[Destroyed], settle: Settle) -> None:
        """Settled once these keys, and all slots that were doomed before, are nowhere on the disk."""
        self._jobs.put((destroyed, settle))

    def wake(self) -> None:
        """Slots are doomed."""
        self._jobs.put(((), lambda _: None))

    def trouble(self) -> str | None:
        """Why keys can't be destroyed now; None where all is well. Not to be asked once it is closed."""
        if not self._thread.is_alive():
            return "the thread that destroys keys has ended"
        if self._waited >= disk.TOLD_SECONDS:
            return f"keys of what is deleted wait to be destroyed, for {self._waited:.0f} s: {disk.KEYS_IN_USE}"
        return self._failure

    def close(self, seconds: float | None) -> bool:
        """Ends it once all is done, or in so many seconds: what is left is destroyed when the store is opened next.
        Returns whether it ended."""
        self._closing = True
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        ending = False
        while not ending:
            jobs: list[_Job | None] = []
            with suppress(queue.Empty):
                jobs.append(self._jobs.get(timeout=_RETRY_SECONDS if self._failure else None))
                while True:
                    jobs.append(self._jobs.get_nowait())
            ending = None in jobs
            waiting = [job for job in jobs if job is not None]
            for destroyed, _ in waiting:
                self._due += destroyed
            if waiting or self._failure:
                error = self._try()
                for _, settle in waiting:
                    with suppress(InvalidStateError):  # cancelled
                        settle(error)

    def _try(self) -> Exception | None:
        try:
            with self._keys.changing(self._go_on):
                self._waited = 0.0
                self._destroy()
        except Exception as error:  # whatever it is: it is tried again
            self._waited = 0.0
            self._failure = f"keys of what is deleted could not be destroyed: {in_words(error)}"
            log.error(self._failure)
            return OutOfMemory("to destroy keys") if isinstance(error, MemoryError) else error
        self._failure = None
        return None

    def _go_on(self, waited: float) -> bool:
        """What is deleted has to be destroyed, however long it takes; but not for ever at a stop."""
        self._waited = waited
        return not self._closing or disk.not_for_long(waited)

    def _destroy(self) -> None:
        """All that is due, and then all slots that are doomed: what fails stays due, and keeps nothing else from it."""
        failed: Exception | None = None
        for one in tuple(self._due):
            try:
                self._begin(one)
            except Exception as error:
                failed = error
        self._keys.destroy_doomed()
        if failed is not None:
            raise failed

    def _begin(self, one: Destroyed) -> None:
        if one.slots is None:
            self._keys.destroy(one.gallery)
            self._due.remove(one)
            return
        with suppress(KeyDestroyed):  # with its gallery
            slots = self._keys.of(one.gallery)
            self._due.remove(one)
            slots.doom(one.slots)
            return
        self._due.remove(one)
