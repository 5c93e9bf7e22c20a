"""What is over and has to go: subjects whose time has come, and old entries of the audit trail."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from oneglance_index.errors import GalleryNotFound, StoreDamaged, SubjectNotFound
from oneglance_index.records import Deleted, Expired
from oneglance_index.store import queries
from oneglance_index.store.auditing import Prune
from oneglance_index.store.database import Store

log = logging.getLogger(__name__)
_SWEPT_AT_ONCE = 256
_PRUNED_AT_ONCE = 1024
_DAY_SECONDS = 86_400
Delete = Callable[[Expired, float], Future[Deleted]]


class Sweeper:
    """Deletes what is over. delete: a subject, if it still is over at a time.

    audit_days: how long the trail's entries are kept; 0 keeps them for ever.
    """

    def __init__(self, store: Store, audit_days: float, delete: Delete) -> None:
        self._store, self._audit_days, self._delete = store, audit_days, delete
        self._prune_at = 0.0

    def sweep(self) -> None:
        self._sweep_subjects()
        if self._audit_days and time.monotonic() >= self._prune_at:
            before = time.time() - _DAY_SECONDS * self._audit_days
            while self._store.write(Prune(before, _PRUNED_AT_ONCE), self, patient=True).result() == _PRUNED_AT_ONCE:
                pass
            self._prune_at = time.monotonic() + _DAY_SECONDS  # each time is told: not more often

    def _sweep_subjects(self) -> None:
        """Those that can't be deleted are told, and stay until the next time."""
        now, most = time.time(), _SWEPT_AT_ONCE
        before: list[Expired] = []
        while True:
            try:
                found = self.expired(now, most)
            except StoreDamaged as error:
                log.error("who is over can't be found: %s", error)
                return
            deleted = self._delete_expired(found, now)
            if deleted:
                log.info("swept %d subjects whose time is over", deleted)
            elif found == before and len(found) < most:
                break
            before, most = found, len(found) - deleted + _SWEPT_AT_ONCE
        if found:
            log.error(
                "%d subjects whose time is over can't be deleted: check the store with `oneglance check`", len(found)
            )

    def expired(self, now: float, most: int, after: tuple[float, int] | None = None) -> list[Expired]:
        """As GalleryStore.expired()."""
        return self._store.read(lambda db: queries.expired(db, now, most, after))

    def _delete_expired(self, found: Sequence[Expired], now: float) -> int:
        """How many of them could be deleted."""
        deleted = 0
        for one in [self._delete(one, now) for one in found]:
            # Deleted meanwhile, or kept longer; or damaged.
            with contextlib.suppress(SubjectNotFound, GalleryNotFound, StoreDamaged):
                one.result()
                deleted += 1
        return deleted
