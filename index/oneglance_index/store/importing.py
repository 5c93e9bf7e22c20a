"""Bringing a gallery into the store that was taken out of another one: in steps that survive a kill, then all at once.

Until the last step the gallery is unfinished: its row says what is being imported, and nothing finds it but whoever
goes on with the import or deletes it. Its index is made when it is finished.

Numbers keep the order that they had: those of encodings are reserved at the beginning, since subjects that were
enrolled in turns have encodings whose numbers lie between each other's. All rows come with revision 0, so that the
index takes them in the order of their numbers, as it must.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from oneglance_core.names import composed
from oneglance_index.encodings import check_encodings
from oneglance_index.errors import EncodingInvalid, GalleryExists, ImportConflict, ImportRefused, LimitExceeded
from oneglance_index.moved import MovedEncoding, MovedSubject
from oneglance_index.records import Gallery, ThresholdVersion
from oneglance_index.store import queries
from oneglance_index.store.ciphers import encoding_identity, encrypt, labels_identity, negative_identity, slots_of
from oneglance_index.store.enrolling import labels_as_json
from oneglance_index.store.ledger import Ledger, next_number, update_gallery
from oneglance_index.store.mutations import Applied, CreateGallery, Effect
from oneglance_index.store.notes import content
from oneglance_index.store.queries import Place, Stored
from oneglance_index.store.rekeying import destroyed
from oneglance_index.store.seals import ENCODINGS, GENERATIONS, NEGATIVES, SUBJECTS, THRESHOLDS


@dataclass(frozen=True, slots=True)
class _Importing:
    """What is being imported: `digest` names it. `first` is the first of the numbers for its encodings. `revision`,
    `threshold` and `threshold_revision` are what the gallery gets in the end."""

    digest: str
    first: int
    subjects: int
    encodings: int
    revision: int
    threshold: float | None
    threshold_revision: int


@dataclass(frozen=True, slots=True)
class BeginImport:
    """Makes an unfinished gallery as `gallery` was, or finds the one that this very import began."""

    gallery_id: str
    gallery: Gallery
    digest: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        found = queries.find_gallery(db, self.gallery_id)
        if found is not None:
            _importing(found, self.digest)
            return Applied(found.gallery)
        one, active = self.gallery, self.gallery.active
        first = next_number(db, ENCODINGS)
        _reserve(db, first + one.encodings - 1)
        importing = _Importing(
            *(self.digest, first, one.subjects, one.encodings, one.revision),
            *(active.threshold, active.threshold_revision),
        )
        create = CreateGallery(
            *(self.gallery_id, active.encoder_digest, active.dimension, one.description, active.kind, active.fusion),
            *(one.target_fpir, active.quality, active.least_gap, active.doubt, active.decided_by),
        )
        return create.made(db, one.created, active.created, json.dumps({"importing": asdict(importing)}))


@dataclass(frozen=True, slots=True)
class ImportSubjects:
    """Subjects come, after `done` that came before. Numbers of encodings count from 0, over the whole gallery. How many
    subjects there are then; nothing happens where these came already."""

    gallery_id: str
    digest: str
    done: int
    subjects: Sequence[MovedSubject]
    max_encodings: int
    max_negatives: int

    def run(self, db: sqlite3.Connection) -> Applied[int]:
        at, importing = _place(db, self.gallery_id, self.digest)
        total = self.done + len(self.subjects)
        if at.subjects >= total:
            return Applied(at.subjects)
        if at.subjects != self.done:
            raise ImportConflict(self.gallery_id, f"{at.subjects} subjects came so far, these follow {self.done}")
        if total > importing.subjects:
            raise ImportRefused(self.gallery_id, "subjects", f"{total} came, of {importing.subjects} that there are")
        first, negative = next_number(db, SUBJECTS), next_number(db, NEGATIVES)
        ledger = Ledger(db, at, revisions=0)
        rows: dict[str, list[tuple[object, ...]]] = {"subjects": [], "encodings": [], "negatives": []}
        for place, (one, (slot, key)) in enumerate(
            zip(self.subjects, slots_of(db, at.number).take_some(len(self.subjects)), strict=True)
        ):
            where = f"subjects[{place}]"
            number = first + place
            labels = encrypt(key, labels_as_json(one.labels).encode(), labels_identity(at.number, number))
            row = (number, at.number, len(one.encodings), slot, one.created, one.updated, composed(one.id), labels)
            kept = one.retention
            rows["subjects"].append((*row, kept.expires, kept.purpose, kept.consent))
            self._check_numbers(where, one, importing.encodings)
            self._check_vectors(f"{where}.encodings", one.encodings, at.dimension, self.max_encodings)
            for encoding in one.encodings:
                mine = importing.first + encoding.number
                sealed = encrypt(key, content(encoding.vector, encoding.note), encoding_identity(at.generation, mine))
                rows["encodings"].append((mine, at.generation, number, 0, encoding.created, sealed))
            self._check_vectors(f"{where}.negatives", one.negatives, at.dimension, self.max_negatives)
            for other in one.negatives:
                sealed = encrypt(key, content(other.vector), negative_identity(at.generation, negative))
                rows["negatives"].append((negative, at.generation, number, other.created, sealed))
                negative += 1
        self._insert(ledger, rows)
        ledger.close(subjects=len(rows["subjects"]), encodings=len(rows["encodings"]))
        return Applied(total)

    def _check_numbers(self, where: str, one: MovedSubject, encodings: int) -> None:
        last = -1
        for place, encoding in enumerate(one.encodings):
            if not last < encoding.number < encodings:
                told = f"{encoding.number} after {last}, of {encodings}" if last >= 0 else f"{encoding.number}"
                raise ImportRefused(
                    self.gallery_id, f"{where}.encodings[{place}].number", f"{told}: they rise, from 0 to all but one"
                )
            last = encoding.number
        if not one.encodings:
            raise ImportRefused(self.gallery_id, f"{where}.encodings", "at least one is required")

    def _check_vectors(self, where: str, given: Sequence[MovedEncoding], dimension: int, most: int) -> None:
        if len(given) > most:
            raise LimitExceeded(where, most, len(given))
        for place, one in enumerate(given):
            if one.vector.shape != (dimension,):
                reason = f"has {len(one.vector)} numbers, the gallery's encodings {dimension}"
                raise ImportRefused(self.gallery_id, f"{where}[{place}].values", reason)
        if given:
            try:
                check_encodings(np.stack([one.vector for one in given]), dimension)
            except EncodingInvalid as error:
                reason = f"has no usable distance: {error.reason}"
                raise ImportRefused(self.gallery_id, f"{where}[{error.row}].values", reason) from None

    def _insert(self, ledger: Ledger, rows: dict[str, list[tuple[object, ...]]]) -> None:
        for table, field in ((SUBJECTS, "id"), (ENCODINGS, "encodings.number"), (NEGATIVES, "negatives")):
            try:
                ledger.insert_all(table, rows[table.name])
            except sqlite3.IntegrityError:
                raise ImportRefused(self.gallery_id, f"subjects.{field}", "one is there twice") from None


@dataclass(frozen=True, slots=True)
class ImportThresholds:
    """Versions of thresholds come, the oldest first; those that came already are left out."""

    gallery_id: str
    digest: str
    versions: Sequence[ThresholdVersion]

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        at, importing = _place(db, self.gallery_id, self.digest)
        newest = _newest_threshold(db, at)
        ledger = Ledger(db, at, revisions=0)
        for place, one in enumerate(self.versions):
            if one.version <= newest:
                continue
            if one.version > importing.threshold_revision:
                told = f"{one.version}, beyond the gallery's last, {importing.threshold_revision}"
                raise ImportRefused(self.gallery_id, f"thresholds[{place}].version", told)
            row = (at.generation, one.version, one.threshold, one.calibration, one.since, one.followed)
            ledger.insert(THRESHOLDS, (*row, one.target_fpir, one.subjects, one.encodings))
            newest = one.version
        ledger.close()
        return Applied(None)


@dataclass(frozen=True, slots=True)
class FinishImport:
    """The gallery is one as all others from here on. Raises ImportRefused where something is missing."""

    gallery_id: str
    digest: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        at, importing = stored.place, _importing(stored, self.digest)
        for name, there, wanted in (
            ("subjects", at.subjects, importing.subjects),
            ("encodings", at.encodings, importing.encodings),
            ("thresholds", _newest_threshold(db, at), importing.threshold_revision),
        ):
            if there != wanted:
                raise ImportRefused(self.gallery_id, name, f"{there} came, of {wanted}")
        update_gallery(db, stored.gallery_row, policies=None)
        ledger = Ledger(db, at, revisions=importing.revision - at.revision)
        changes = {"threshold": importing.threshold, "threshold_revision": importing.threshold_revision}
        ledger.update(GENERATIONS, stored.generation_row, **changes)
        ledger.close()
        slots = [block.slot for block in queries.blocks(db, at.generation)]
        for table in ("snapshots", "blocks"):  # of when it was unfinished
            db.execute(f"DELETE FROM {table} WHERE generation = ?", (at.generation,))
        gallery = queries.gallery(db, self.gallery_id).gallery
        having = queries.subjects_with_negatives(db, at)
        effect = Effect(at.generation, at.gallery_id, updated=gallery, remade=True, having_negatives=having)
        return Applied(gallery, effect, destroyed(at.number, *slots))


def _reserve(db: sqlite3.Connection, last: int) -> None:
    """No encoding gets a number up to this one any more, unless it is given it."""
    if not db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'encodings'", (last,)).rowcount:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('encodings', ?)", (last,))


def _place(db: sqlite3.Connection, gallery_id: str, digest: str) -> tuple[Place, _Importing]:
    stored = queries.gallery(db, gallery_id)
    return stored.place, _importing(stored, digest)


def _importing(stored: Stored, digest: str) -> _Importing:
    """Raises GalleryExists for a gallery that is finished, ImportConflict for one that another import began."""
    gallery = stored.gallery
    if gallery.policies is None or not gallery.unfinished:
        raise GalleryExists(gallery.id)
    importing = _Importing(**json.loads(gallery.policies)["importing"])
    if importing.digest != digest:
        raise ImportConflict(gallery.id, "another export is being imported into it: go on with that, or delete it")
    return importing


def _newest_threshold(db: sqlite3.Connection, at: Place) -> int:
    rows = db.execute("SELECT MAX(version) AS newest FROM thresholds WHERE generation = ?", (at.generation,)).fetchall()
    return int(rows[0]["newest"] or 0)
