"""The galleries as searches see them: each with the index of its active generation, kept in step with the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from oneglance_index.records import Gallery
from oneglance_index.search import snapshot
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.loading import Progress, load_index
from oneglance_index.search.registry import Machine, make_index
from oneglance_index.search.upkeep import Upkeep
from oneglance_index.store import queries
from oneglance_index.store.mutations import Effect


@dataclass(frozen=True, slots=True)
class Opened:
    """A gallery, the number of its active generation, and that generation's index."""

    generation: int
    gallery: Gallery
    index: GalleryIndex


class OpenedGalleries:
    """Filled by load(), and told by the store's writer of what it committed. `upkeep` gets to know every index."""

    def __init__(self, machine: Machine, upkeep: Upkeep) -> None:
        self._machine = machine
        self._upkeep = upkeep
        self._opened: dict[str, Opened] = {}

    def load(self, db: sqlite3.Connection, data_dir: Path, progress: Progress) -> None:
        """Opens every gallery that `db` holds, and removes the snapshots that are of no use.

        Raises StoreDamaged, DeviceUnavailable, GenerationUnsupported.
        """
        kept: set[Path] = set()
        for stored in queries.all_galleries(db):
            index, revision = load_index(db, data_dir, stored, self._make_index, progress)
            self._open(stored.place.generation, stored.gallery, index, revision)
            if revision >= 0:
                kept.add(snapshot.path_of(data_dir, stored.place.generation, revision))
        snapshot.remove_others(data_dir, kept)

    def get(self, gallery_id: str) -> Opened | None:
        return self._opened.get(gallery_id)

    def clear(self) -> None:
        self._opened.clear()

    def follow(self, effects: Sequence[Effect]) -> None:
        """Brings the indexes up to what was committed. Called in the writer's thread, in the order of the commits."""
        failure: Exception | None = None
        for effect in effects:
            try:
                self._follow(effect)
            except Exception as error:  # the other indexes must not miss what happened to theirs
                failure = error
        if failure is not None:
            raise failure

    def _follow(self, effect: Effect) -> None:
        if effect.created is not None:
            self._open(effect.generation, effect.created, self._make_index(effect.created), -1)
        elif effect.dropped:
            del self._opened[effect.gallery_id]
            self._upkeep.drop(effect.generation)
        elif effect.change is not None:
            opened = self._opened[effect.gallery_id]
            if effect.updated is not None:
                self._opened[effect.gallery_id] = replace(opened, gallery=effect.updated)
            opened.index.apply(effect.change)
            self._upkeep.changed(effect.generation, len(effect.change.added) + len(effect.change.removed))

    def _make_index(self, gallery: Gallery) -> GalleryIndex:
        return make_index(gallery, self._machine)

    def _open(self, generation: int, gallery: Gallery, index: GalleryIndex, snapshot_revision: int) -> None:
        self._opened[gallery.id] = Opened(generation, gallery, index)
        self._upkeep.add(generation, index, snapshot_revision)
