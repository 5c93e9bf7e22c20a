"""The thread that destroys keys: what is deleted is answered for once its keys are nowhere on the disk.

A thread of its own, since other writes shall not wait for it: it waits for the disk, and for a backup that is copying
the keys.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from oneglance_index.errors import StoreError
from oneglance_index.store.keys import KeyDestroyed, Keys
from oneglance_index.store.rekeying import Destroyed

log = logging.getLogger(__name__)

# Called with None once the keys are destroyed, else with what went wrong.
Settle = Callable[[StoreError | None], None]
_Job = tuple[Sequence[Destroyed], Settle]


class Destroyer:
    """Destroys keys of `keys` until close()."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._left: list[Destroyed] = []  # those that couldn't be destroyed: the next try, or the next start
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._loop, name="oneglance-destroyer", daemon=True)
        self._thread.start()

    def submit(self, destroyed: Sequence[Destroyed], settle: Settle) -> None:
        self._jobs.put((destroyed, settle))

    def close(self, seconds: float | None) -> bool:
        """Ends it once all is done, or in so many seconds: what is left is destroyed when the store is opened next.
        Returns whether it ended."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        ending = False
        while not ending:
            jobs = [self._jobs.get()]
            with suppress(queue.Empty):
                while True:
                    jobs.append(self._jobs.get_nowait())
            ending = None in jobs
            due = [job for job in jobs if job is not None]
            if not due:
                continue
            error: StoreError | None = None
            try:
                with self._keys.changing():
                    self._destroy([*self._left, *(one for destroyed, _ in due for one in destroyed)])
                self._left, self.failure = [], None
            except StoreError as failure:
                log.error("keys of what is deleted could not be destroyed: %s", failure)
                error, self.failure = failure, str(failure)
                self._left += [one for destroyed, _ in due for one in destroyed]
            for _, settle in due:
                settle(error)

    def _destroy(self, due: Sequence[Destroyed]) -> None:
        slots: dict[int, list[int]] = {}
        for one in due:
            if one.slots is None:
                self._keys.destroy(one.gallery)
            else:
                slots.setdefault(one.gallery, []).extend(one.slots)
        for gallery, gone in slots.items():
            with suppress(KeyDestroyed):  # with its gallery
                self._keys.of(gallery).destroy(gone)
