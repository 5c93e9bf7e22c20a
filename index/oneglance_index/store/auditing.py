"""What the audit trail tells of each change, and the mutations of the trail alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from oneglance_core.names import composed
from oneglance_index.audit import ITSELF, Actor, Event
from oneglance_index.records import Gallery, MappedStep
from oneglance_index.store import importing, managing, mapping, mutations, succession
from oneglance_index.store.crops import SetKeepCrops
from oneglance_index.store.enrolling import Enroll
from oneglance_index.store.following import Following
from oneglance_index.store.mutations import Applied, Mutation


@dataclass(frozen=True, slots=True)
class Record:
    """Entries of the audit trail, and nothing else. The writer's own: it isn't run."""

    events: Sequence[Event]

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Prune:
    """Removes entries of before a time, at most so many; the result says how many. As Record."""

    before: float
    most: int

    def run(self, db: sqlite3.Connection) -> Applied[int]:
        raise NotImplementedError


# By kind of mutation: what it is called, and what of it is told besides gallery, subject and revision.
_Told = tuple[str, Callable[[Any], Mapping[str, object]]]


def _enrolled(one: Enroll) -> Mapping[str, object]:
    told = {"examples": len(one.encodings), "on_existing": one.on_existing, "model": one.encoder_digest}
    return told if one.filling is None else {**told, "from_crops": True}


def _created(one: mutations.CreateGallery) -> Mapping[str, object]:
    rules = {"fusion": one.fusion, "decided_by": one.decided_by, "quality": one.quality, "doubt": one.doubt}
    kept = {"target_fpir": one.target_fpir, "least_gap": one.least_gap, "keep_crops": one.keep_crops}
    return {"model": one.encoder_digest, **kept, **rules}


def _relabelled(one: managing.UpdateLabels) -> Mapping[str, object]:
    return {"set": len(one.labels), "removed": len(one.removed), "clear": one.clear}


def _deleted(one: mutations.DeleteEncodings) -> Mapping[str, object]:
    return {} if one.encoding_id is None else {"encoding": one.encoding_id}


def _imported(one: importing.BeginImport) -> Mapping[str, object]:
    sizes = {"subjects": one.gallery.subjects, "encodings": one.gallery.encodings}
    return {"model": one.gallery.active.encoder_digest, "digest": one.digest, **sizes}


def _mapped(one: mapping.FillByMap) -> Mapping[str, object]:
    loss = one.loss
    measured = {"probes": loss.probes, "missed": loss.missed, "missed_true": loss.missed_true}
    return {"map": loss.digest, "fitted_subjects": loss.fitted_subjects, **measured}


_TOLD: Mapping[type[object], _Told] = {
    mutations.CreateGallery: ("create-gallery", _created),
    mutations.DeleteGallery: ("delete-gallery", lambda _: {}),
    mutations.SetThreshold: ("set-threshold", lambda one: {"calibrated": one.calibration is not None}),
    mutations.SetTargetFpir: ("set-target-fpir", lambda one: {"target_fpir": one.target_fpir}),
    mutations.SetFusion: ("set-fusion", lambda one: {"fusion": one.fusion}),
    mutations.SetDecidedBy: ("set-decided-by", lambda one: {"decided_by": one.decided_by}),
    mutations.SetQuality: ("set-quality-policy", lambda one: {"quality": one.quality}),
    mutations.SetLeastGap: ("set-least-gap", lambda one: {"least_gap": one.least_gap}),
    mutations.SetKind: ("set-approximation", lambda one: {"kind": one.kind}),
    mutations.SetDoubt: ("set-doubt-policy", lambda one: {"doubt": one.doubt}),
    SetKeepCrops: ("set-keep-crops", lambda one: {"keep_crops": one.keep}),
    mutations.SetRetention: ("set-retention", lambda one: {"expires": one.retention.expires}),
    mutations.DeleteEncodings: ("delete", _deleted),
    mutations.AddNegative: ("add-negative", lambda one: {"model": one.encoder_digest}),
    mutations.DeleteNegative: ("delete-negative", lambda one: {"negative": one.negative_id}),
    managing.RenameSubject: ("rename-subject", lambda _: {}),
    managing.UpdateLabels: ("update-labels", _relabelled),
    managing.MergeSubjects: ("merge-subjects", lambda _: {}),
    managing.MoveEncodings: ("move-encoding", lambda one: {"encoding": one.encoding_id}),
    importing.BeginImport: ("import-gallery", _imported),
    importing.FinishImport: ("finish-import", lambda one: {"digest": one.digest}),
    succession.StartMove: ("start-move", lambda one: {"successor": one.successor_id, "model": one.encoder_digest}),
    succession.CutOver: ("cut-over", lambda one: {"leave": one.leave}),
    succession.RollBack: ("roll-back", lambda one: {"leave": one.leave}),
    succession.EndMove: ("end-move", lambda one: {"keep": one.keep}),
    mapping.FillByMap: ("fill-by-map", _mapped),
    Enroll: ("enroll", _enrolled),
}
# Of what concerns two subjects, or two ids, each has an entry of its own that says which of the two it is: entries are
# looked for by subject.
_OTHER: Mapping[type[object], Callable[[Any], str]] = {
    managing.RenameSubject: lambda one: one.new_id,
    managing.MergeSubjects: lambda one: one.into_id,
    managing.MoveEncodings: lambda one: one.to_id,
}


def events_of(made: Mutation[Any], applied: Applied[Any], actor: Actor) -> Sequence[Event]:
    """What there is to tell of a change that was made on behalf of `actor`."""
    mutation: Any = made.mutation if isinstance(made, Following) else made
    if isinstance(mutation, mutations.DeleteEncodings) and mutation.expired_by is not None:
        actor, did, told = ITSELF, "expire", _TOLD[type(mutation)][1]
    elif type(mutation) not in _TOLD:
        return ()
    else:
        did, told = _TOLD[type(mutation)]
    result = applied.result
    details = {**told(mutation), "revision": result.revision}
    for word in ("replayed", "created", "subject_deleted"):
        if type(value := getattr(result, word, None)) is bool:
            details[word] = value
    if isinstance(result, MappedStep):
        details["mapped"] = result.mapped
    if also := sorted({one.gallery_id for one in applied.also} - {mutation.gallery_id}):
        details["also_in"] = also
    changed = result if isinstance(result, Gallery) else applied.effect.updated if applied.effect else None
    if changed is not None and did != "delete-gallery":
        active = changed.active
        details["tau"] = active.followed.tau if active.threshold is None and active.followed else active.threshold
        details["tau_version"] = active.threshold_revision
    subject = getattr(mutation, "subject_id", None)
    event = Event(actor, did, mutation.gallery_id, None if subject is None else composed(subject), details)
    if type(mutation) not in _OTHER:
        return (event,)
    other = composed(_OTHER[type(mutation)](mutation))
    return (
        replace(event, details={**details, "side": "from"}),
        replace(event, subject=other, details={**details, "side": "to"}),
    )
