"""The galleries as searches see them: each with the index of its active generation, kept in step with the store.

Before a commit prepare() makes room for it in the index, so that following it can't fail for want of memory. An index
that fails to follow nevertheless answers no search any more, since it would miss what is committed; it is rebuilt in
the background, and takes no enrollments meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oneglance_core.fusion import has_template
from oneglance_index.approximation import Approximation, approximation_of
from oneglance_index.errors import GalleryNotFound, GalleryUnfinished, IndexOutOfStep, OutOfMemory, StoreClosed
from oneglance_index.number_set import NumberSet
from oneglance_index.records import Change, Gallery, OpenProgress
from oneglance_index.search import snapshot
from oneglance_index.search.fused import adds_template
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.loading import Loaded, Progress, load_index
from oneglance_index.search.registry import Machine, check_supported, make_index
from oneglance_index.search.tending import Tending
from oneglance_index.search.upkeep import Upkeep
from oneglance_index.start_check import StartCheck
from oneglance_index.store import queries
from oneglance_index.store.database import Store
from oneglance_index.store.directory import check_none_is_later
from oneglance_index.store.keys import copying
from oneglance_index.store.mutations import NOBODY, Effect, ForgetSnapshot
from oneglance_index.store.queries import Stored
from oneglance_index.store.recent import Recent
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.store.store_row import check_known, told_store
from oneglance_index.waiting import After

# What following a transaction takes besides its rows, about: prepare() sees that there is as much.
_FOLLOWING_BYTES = 4 << 20

_NONE_MAPPED = NumberSet()
# Hears of the galleries that are new or changed, and (None) of those that are gone, before that write is done.
OnGalleries = Callable[[Mapping[str, Gallery | None]], None]
log = logging.getLogger(__name__)


def nobody_decides(_: Mapping[str, Gallery | None]) -> None:
    """An OnGalleries where no other process decides by the galleries."""


def _unheard(_: OpenProgress) -> None:
    """How far a gallery has come that is loaded again."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A gallery, the number of its active generation, and that generation's index; None while it is out of step.
    `having_negatives`: the numbers of the subjects that have some; `mapped`: of those with mapped encodings. `loaded`:
    the index was loaded with what came up to this revision."""

    generation: int
    gallery: Gallery
    index: GalleryIndex | None
    having_negatives: frozenset[int] = NOBODY
    loaded: int = 0
    mapped: NumberSet = _NONE_MAPPED

    def in_step(self) -> GalleryIndex:
        """Raises IndexOutOfStep, GalleryUnfinished."""
        if self.gallery.unfinished:
            raise GalleryUnfinished(self.gallery.id)
        if self.index is None:
            raise IndexOutOfStep(self.gallery.id)
        return self.index

    def apply(self, changes: Sequence[Change]) -> None:
        """Tells the index, in step, of changes of one transaction. It may have been loaded with them: what is committed
        can be read before it is followed."""
        assert self.index is not None
        if changes[0].revision > self.loaded:
            self.index.apply(*changes)


class OpenedGalleries:
    """Filled by load(); then follows what the store's writer commits. The upkeep gets to know every index."""

    _store: Store
    _upkeep: Upkeep

    def __init__(
        self, machine: Machine, data_dir: Path, checked_share: float, on_galleries: OnGalleries = nobody_decides
    ) -> None:
        self._on_galleries = on_galleries
        self.tending = Tending(self._approximate, checked_share)
        self._machine = machine
        self._data_dir = data_dir
        self._opened: dict[str, Opened] = {}
        self.recent = Recent()
        # Of the transaction under way: indexes made, and (encodings, new subjects) there is room for, by generation.
        self._made: dict[int, GalleryIndex] = {}
        self._added: dict[int, tuple[int, int]] = {}
        # Guards what an index that is being rebuilt missed, by generation, and the changes of _opened.
        self._rebuilding = threading.Lock()
        self._missed: dict[int, list[tuple[Change, ...]]] = {}
        # Generations that weren't loaded yet, since the start.
        self._loading: set[int] = set()
        self._fewer = threading.Condition(self._rebuilding)
        # Who waits for an index that is being rebuilt, by generation.
        self._awaited: dict[int, list[Callable[[Exception | None], None]]] = {}

    def load(self, store: Store, upkeep: Upkeep, progress: Progress, later: bool) -> StartCheck:
        """Opens every gallery that the store holds, the small ones first, and forgets the snapshots that are of no use.
        With `later` they are loaded in the background, and out of step until then: see await_loaded(). Returns what
        is to be checked yet.

        Raises StoreDamaged, StoreMissing, DeviceUnavailable, GenerationUnsupported, OutOfMemory, and what `progress`
        raises.
        """
        self._store, self._upkeep = store, upkeep
        with store.reading() as db:
            deleted = check_known(db)
            galleries = sorted(queries.all_galleries(db), key=lambda stored: stored.gallery.encodings)
            revisions = {stored.place.generation: stored.gallery.revision for stored in galleries}
            check_none_is_later(self._data_dir, queries.last_generation(db), revisions)
            self._check_card(galleries)
            remote = self._machine.device.remote
            if remote is not None:
                remote.engine.belongs_to(told_store(db)[0])
                remote.engine.keep_only(list(revisions))
            snapshots = queries.snapshot_revisions(db)
            kept = {snapshot.path_of(self._data_dir, *named) for named in snapshots.items()}
            check = StartCheck(store, snapshot.others(self._data_dir, kept))
            useless = {}
            for stored in galleries:
                generation, gallery = stored.place.generation, stored.gallery
                having = queries.subjects_with_negatives(db, stored.place)
                mapped = NumberSet(queries.mapped_subjects(db, stored.place))
                if later:
                    check_supported(gallery.id, gallery.active.kind, gallery.active.fusion)
                    self._opened[gallery.id] = Opened(generation, gallery, None, having, mapped=mapped)
                    self._missed[generation] = []
                    self._loading.add(generation)
                    rebuild = functools.partial(self._rebuild, gallery.id, generation, progress)
                    upkeep.rebuild(generation, rebuild, snapshots.get(generation, -1))
                    continue
                loaded = load_index(db, store, self._data_dir, stored, self._make_index, progress)
                self._open(generation, gallery, loaded.index, loaded.snapshot_revision, having, mapped)
                if loaded.useless is not None:
                    useless[generation] = loaded.useless
        for named in useless.items():
            self._forget_snapshot(*named)
        if later:
            check.remove_leftovers()
        if deleted:
            upkeep.purge()
        return check

    def await_loaded(self) -> None:
        """Returns once every gallery has been loaded since the start, is deleted, or could not be loaded, which is
        tried again; or end_loading() is called."""
        with self._fewer:
            self._fewer.wait_for(lambda: not self._loading)

    def end_loading(self) -> None:
        """Nobody waits for galleries to be loaded any more."""
        with self._fewer:
            self._loading.clear()
            self._fewer.notify_all()

    def _is_loaded(self, generation: int) -> None:
        """Or gone, or that failed; `_rebuilding` is held."""
        self._loading.discard(generation)
        if not self._loading:
            self._fewer.notify_all()

    def _forget_snapshot(self, generation: int, revision: int) -> None:
        """It isn't usable."""
        self._store.write(ForgetSnapshot(generation), self, patient=True).result()
        snapshot.remove([snapshot.path_of(self._data_dir, generation, revision)])

    def _check_card(self, galleries: Iterable[Stored]) -> None:
        """Raises OutOfMemory where a GPU has no room for all of them: before minutes of loading, not after."""
        gpu = self._machine.device.gpu
        if gpu is not None:
            wanted = sum(gpu.row_bytes(one.place.dimension) * _rows_in(one) for one in galleries)
            free = gpu.card.free_bytes()
            if wanted > free:
                device = self._machine.device.name
                raise OutOfMemory(
                    f"on {device}: the galleries take {wanted / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
                )

    def get(self, gallery_id: str) -> Opened | None:
        return self._opened.get(gallery_id)

    def _of_generation(self, generation: int, gallery_id: str) -> Opened:
        """Its gallery is called so, unless it was given another id meanwhile, or is in the transaction under way."""
        named = self._opened.get(gallery_id)
        if named is not None and named.generation == generation:
            return named
        # A copy: galleries may be made meanwhile.
        return next(one for one in list(self._opened.values()) if one.generation == generation)

    def galleries(self) -> list[Gallery]:
        return [opened.gallery for opened in self._opened.values()]

    def _approximate(self) -> dict[int, tuple[GalleryIndex, Approximation]]:
        """The indexes whose answers may lose something, by generation, and how much."""
        return {
            one.generation: (one.index, wanted)
            for one in list(self._opened.values())
            if one.index is not None and (wanted := approximation_of(one.gallery.active.kind)) is not None
        }

    def clear(self) -> None:
        self.tending.close()
        self._opened.clear()
        with self._rebuilding:
            awaited = list(self._awaited)
        for generation in awaited:
            self._tell(generation, StoreClosed(self._data_dir))

    def once_in_step(self, gallery_id: str, written: Future[Gallery]) -> Future[Gallery]:
        """The result of a write, once the gallery's index answers again.

        Fails with GalleryNotFound or StoreClosed where the gallery goes, or the store is closed, before that.
        """
        result: After[Gallery] = After(written)

        def follow(done: Future[Gallery]) -> None:
            if done.cancelled():
                result.was_cancelled()
                return
            error = done.exception()
            opened = self._opened.get(gallery_id)
            if error is not None:
                _settle(result, error, None)
                return
            with self._rebuilding:
                if opened is not None and opened.generation in self._missed:
                    settle = functools.partial(_settle, result, gallery=done.result())
                    self._awaited.setdefault(opened.generation, []).append(settle)
                    return
            _settle(result, None, done.result())

        written.add_done_callback(follow)
        return result

    def _tell(self, generation: int, error: Exception | None) -> None:
        """Whoever waits for this index: it is in step, or never will be."""
        with self._rebuilding:
            awaited = self._awaited.pop(generation, [])
        for settle in awaited:
            settle(error)

    # Following the writer, in its thread.

    def begin(self) -> None:
        self._made.clear()
        self._added.clear()
        self.recent.begin()

    def prepare(self, effects: Sequence[Effect]) -> None:
        """Makes the room that following these effects takes. Raises OutOfMemory, IndexOutOfStep for more encodings of a
        gallery that is being rebuilt, or is to answer, and what making an index raises. Deletions take no room.
        """
        for effect in effects:
            self._make_room(effect)
        for effect in effects:  # once there is room for all: what isn't committed must not be known as the latest
            if effect.dropped:
                self.recent.changed(effect.generation, None)
            for change in effect.changes:
                self.recent.changed(effect.generation, change)

    def _make_room(self, effect: Effect) -> None:
        try:
            if effect.created is not None:
                self._made[effect.generation] = self._make_index(effect.created, effect.generation)
            elif any(len(change.added) for change in effect.changes):
                self._reserve(effect)
            elif effect.swapped is not None:  # who waits is called so until then, and is to answer
                waiting = self._opened.get(effect.gallery_id)
                if waiting is not None:  # else it is made in this very transaction
                    waiting.in_step()
        except MemoryError:
            raise OutOfMemory(f"for more in gallery {effect.gallery_id!r}") from None

    def _reserve(self, effect: Effect) -> None:
        if not self._added:
            np.empty(_FOLLOWING_BYTES, np.uint8)
        encodings, subjects = self._added.get(effect.generation, (0, 0))
        added = encodings + sum(map(_rows_of, effect.changes)), subjects + sum(map(adds_template, effect.changes))
        index = self._made.get(effect.generation) or self._of_generation(effect.generation, effect.gallery_id).in_step()
        index.reserve(*added)
        self._added[effect.generation] = added

    def follow(self, effects: Sequence[Effect]) -> None:
        """Brings the indexes up to what was committed, in the order of the commits."""
        self.recent.committed()
        for effect in effects:
            try:
                self._follow(effect)
            except Exception:  # the other indexes must not miss what happened to theirs
                log.exception("gallery %r: its index missed a write and is rebuilt", effect.gallery_id)
                self._give_up(effect)
        self._tell_others(effects)

    def _tell_others(self, effects: Sequence[Effect]) -> None:
        """Once for all, and once all is followed: whoever decides elsewhere may have to be waited for."""
        changed: list[str] = []
        for effect in effects:
            if effect.created or effect.updated or effect.dropped or effect.swapped or effect.no_longer_mapped:
                changed += [gallery.id for gallery in effect.swapped or ()] or [effect.gallery_id]
        if changed:
            found = {gallery_id: self._opened.get(gallery_id) for gallery_id in changed}
            self._on_galleries({name: None if one is None else one.gallery for name, one in found.items()})

    def _follow(self, effect: Effect) -> None:
        if effect.swapped is not None:
            self._swap(*effect.swapped)
        if effect.created is not None:
            self._open(effect.generation, effect.created, self._made[effect.generation], -1)
        elif effect.dropped:
            with self._rebuilding:
                gone = self._opened.pop(effect.gallery_id)
                self._missed.pop(effect.generation, None)
                self._is_loaded(effect.generation)
            self._upkeep.drop(effect.generation)
            self._upkeep.purge()
            with contextlib.suppress(MemoryError):  # the next start removes what it holds elsewhere
                (gone.index or self._make_index(gone.gallery, effect.generation)).retire(drop=True)
            self._tell(effect.generation, GalleryNotFound(effect.gallery_id))
        elif effect.remade:
            assert effect.updated is not None
            with self._rebuilding:
                opened = self._opened[effect.gallery_id]
                if opened.index is not None:
                    opened.index.retire(drop=False)
                having = opened.having_negatives if effect.having_negatives is None else effect.having_negatives
                self._opened[effect.gallery_id] = replace(
                    opened,
                    generation=effect.generation,
                    gallery=effect.updated,
                    index=None,
                    having_negatives=having,
                )
            self._upkeep.drop(effect.generation)
            self._give_up(effect)
        elif effect.changes:
            with self._rebuilding:
                opened = self._opened[effect.gallery_id]
                having, mapped = _having_negatives(opened.having_negatives, effect), _mapped(opened.mapped, effect)
                others = having is not opened.having_negatives or mapped is not opened.mapped
                if effect.updated is not None or others:
                    updated = _counted(effect.updated or opened.gallery, mapped)
                    self._opened[effect.gallery_id] = replace(
                        opened, gallery=updated, having_negatives=having, mapped=mapped
                    )
                if opened.index is None:
                    self._missed[effect.generation].append(effect.changes)
                    return
            opened.apply(effect.changes)
            if effect.kind_set:  # what an alarm has ended begins anew
                opened.index.approximate(None)
                self.tending.forget(effect.generation)
            if effect.updated is not None:
                opened.index.approximate(approximation_of(effect.updated.active.kind))
            self.tending.changed(opened.index)
            changed = sum(len(change.added) + len(change.removed) for change in effect.changes)
            self._upkeep.changed(effect.generation, changed)

    def _swap(self, one: Gallery, other: Gallery) -> None:
        """Two galleries have each other's id; whoever asks meanwhile finds one of the two."""
        with self._rebuilding:
            former, former_other = self._opened[other.id], self._opened[one.id]
            self._opened[one.id] = replace(former, gallery=one)
            self._opened[other.id] = replace(former_other, gallery=other)

    def _make_index(self, gallery: Gallery, generation: int) -> GalleryIndex:
        return make_index(gallery, generation, self._machine)

    def _open(
        self,
        generation: int,
        gallery: Gallery,
        index: GalleryIndex,
        snapshot_revision: int,
        having_negatives: frozenset[int] = NOBODY,
        mapped: NumberSet = _NONE_MAPPED,
    ) -> None:
        self._opened[gallery.id] = Opened(generation, gallery, index, having_negatives, mapped=mapped)
        self._upkeep.add(generation, index, snapshot_revision, gallery.encodings)

    # Rebuilding.

    def _give_up(self, effect: Effect) -> None:
        """The index of this effect's gallery is out of step from here on."""
        opened = self._opened.get(effect.gallery_id)
        gallery = effect.created or (opened.gallery if opened else None)
        if gallery is None or effect.dropped:
            return
        if opened is not None and opened.index is not None:
            opened.index.retire(drop=False)
        with self._rebuilding:
            self._missed[effect.generation] = []
            having, mapped = (opened.having_negatives, opened.mapped) if opened else (NOBODY, _NONE_MAPPED)
            self._opened[effect.gallery_id] = Opened(effect.generation, gallery, None, having, mapped=mapped)
        self._upkeep.rebuild(effect.generation, functools.partial(self._rebuild, effect.gallery_id, effect.generation))

    def _rebuild(self, gallery_id: str, generation: int, progress: Progress = _unheard) -> None:
        """Loads the index again, and puts it in its place once it is in step. Called in the upkeep's thread.

        Its id may be another one by then. Raises GalleryNotFound for one that was deleted, which the upkeep is told of
        by drop().
        """
        try:
            self._load_again(gallery_id, generation, progress)
        finally:
            with self._rebuilding:
                self._is_loaded(generation)

    def _load_again(self, gallery_id: str, generation: int, progress: Progress) -> None:
        missed: list[tuple[Change, ...]] = []
        with self._rebuilding:
            if generation not in self._missed:
                raise GalleryNotFound(gallery_id)
            self._missed[generation] = missed  # what comes from here on; the rest is in the store
        found: tuple[Stored, Loaded] | None = None
        with contextlib.suppress(KeyDestroyed):  # of what is deleted meanwhile
            found = self._loaded(gallery_id, generation, progress)
        if found is None:
            with copying(self._data_dir):  # now deletions wait
                found = self._loaded(gallery_id, generation, progress)
        try:
            self._put_in_place(gallery_id, generation, *found, missed)
        except BaseException:
            with self._rebuilding:
                gone = generation not in self._missed
            found[1].index.retire(drop=gone)
            raise
        self._tell(generation, None)

    def _put_in_place(
        self, gallery_id: str, generation: int, stored: Stored, loaded: Loaded, missed: list[tuple[Change, ...]]
    ) -> None:
        """Raises IndexOutOfStep, StoreError."""
        if loaded.useless is not None:
            self._forget_snapshot(generation, loaded.useless)
        with self._rebuilding:
            if self._missed.get(generation) is not missed:  # it was deleted, or missed more than it says
                raise IndexOutOfStep(gallery_id)
            former = self._of_generation(generation, gallery_id)
            if former.gallery.active.fusion != stored.place.fusion:  # changed again: to be followed
                raise IndexOutOfStep(gallery_id)
            opened = replace(former, index=loaded.index, loaded=stored.gallery.revision)
            for changes in missed:
                opened.apply(changes)
            self._upkeep.add(generation, loaded.index, loaded.snapshot_revision, stored.gallery.encodings)
            self._opened[opened.gallery.id] = opened
            loaded.index.approximate(approximation_of(opened.gallery.active.kind))
            del self._missed[generation]

    def _loaded(self, gallery_id: str, generation: int, progress: Progress) -> tuple[Stored, Loaded]:
        """As the store is now. Raises KeyDestroyed where some of that was deleted meanwhile."""
        with self._store.reading() as db:
            stored = queries.of_generation(db, generation)
            if stored is None:
                raise GalleryNotFound(gallery_id)
            loaded = load_index(db, self._store, self._data_dir, stored, self._make_index, self._going_on(progress))
        return stored, loaded

    def _going_on(self, heard: Progress) -> Progress:
        def progress(step: OpenProgress) -> None:
            if self._upkeep.closing():
                raise StoreClosed(self._data_dir)
            heard(step)

        return progress


def _rows_in(stored: Stored) -> int:
    """Rows that its index holds."""
    return stored.gallery.subjects if has_template(stored.place.fusion) else stored.gallery.encodings


def _rows_of(change: Change) -> int:
    """Rows that following a change adds to the index, at most."""
    return len(change.added) + (change.kept is not None and len(change.added) > 0)


def _having_negatives(former: frozenset[int], effect: Effect) -> frozenset[int]:
    """The subjects that have negatives after a change; the same object where they are the same."""
    having = former
    for change in effect.changes:
        if change.removed_subject in having:
            having = having - {change.removed_subject}
    if effect.negatives is not None:
        subject, some = effect.negatives
        having = having | {subject} if some else having - {subject}
    return having


def _mapped(former: NumberSet, effect: Effect) -> NumberSet:
    """The subjects that have mapped encodings after a change; the same object where they are the same."""
    removed = {one.removed_subject for one in effect.changes if one.removed_subject is not None}
    return former.changed(effect.mapped, effect.no_longer_mapped | removed)


def _counted(gallery: Gallery, mapped: NumberSet) -> Gallery:
    """With what is mapped of it, in which all subjects of these numbers are."""
    told = gallery.mapped
    if told is None or told.subjects == len(mapped):
        return gallery
    told = replace(told, subjects=len(mapped), outdated=min(told.outdated, len(mapped))) if mapped else None
    return replace(gallery, mapped=told)


def _settle(result: Future[Gallery], error: BaseException | None, gallery: Gallery | None) -> None:
    if error is not None:
        result.set_exception(error)
    elif gallery is not None:
        result.set_result(gallery)
