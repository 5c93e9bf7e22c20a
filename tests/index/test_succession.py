"""A gallery moves to another encoder: two galleries against a plain model, through restarts; and step by step what each
does where the model has no opinion."""

from __future__ import annotations

import functools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from oneglance_core.fusion import FUSIONS
from oneglance_core.mapping import EncodingMap
from oneglance_index import (
    EncoderMismatch,
    Enrolled,
    Filling,
    GalleryExists,
    GalleryNotFound,
    GalleryWaits,
    IndexOutOfStep,
    IndexSettings,
    LimitExceeded,
    LocalGalleries,
    MapLoss,
    MoveConflict,
    MoveIncomplete,
    MoveNotFound,
    NeighbourGone,
    NewEncodings,
    RequestConflict,
    Retention,
    StoreFull,
    SubjectNotFound,
    SubjectNotMoving,
    check_directory,
    read_trail,
    repair,
)
from oneglance_index.opened import OpenedGalleries
from oneglance_index.records import Doubting, Followed
from oneglance_index.store import queries, writer
from oneglance_index.store.following import Followable
from oneglance_index.store.mutations import Effect
from oneglance_index.store.succession import EndBrokenMove
from tests.acting import acting_as
from tests.index import asking
from tests.index.test_spelling import JOSE, OTHER, as_version_7

DIMENSIONS = {"old": 3, "new": 5}
IDS = st.sampled_from([f"s{i}" for i in range(5)])
VALUES = st.lists(st.integers(1, 5), min_size=1, max_size=3)  # examples: what each encoder makes of one is below
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
TTL = 1e9


def encoded(encoder: str, examples: Sequence[int]) -> Any:
    """What an encoder makes of examples, float32 [n, D]."""
    dimension = DIMENSIONS[encoder]
    return np.stack([np.eye(dimension, dtype=np.float32)[one % dimension] * one for one in examples])


class Example(int):
    """An example, and the crop that is kept of its picture, b"" where none is."""

    crop = b""


def pictured(examples: Sequence[int], kept: bool) -> list[Example]:
    made = [Example(one) for one in examples]
    for one in made:
        one.crop = b"a crop of %d" % one if kept else b""
    return made


def rule_of_tau(found: Followable) -> Followed | None:
    made = Followed(1.0 + found.subjects, f"{found.encoder_digest}/{found.subjects}")
    return None if made == found.followed else made


def contents(galleries: LocalGalleries, gallery_id: str) -> dict[str, tuple[dict[str, str], int, int, str | None]]:
    """By id: labels, how many encodings and negatives, and the purpose of keeping."""
    page = galleries.list_subjects(gallery_id, page_size=100)
    return {
        one.id: (dict(one.labels), len(one.encodings), len(one.negatives), one.retention.purpose)
        for one in page.subjects
    }


def counts_what_is_mapped(db: sqlite3.Connection) -> bool:
    """Whether each generation counts its mapped subjects, as they are."""
    maps = [queries.newest_map(db, row[0]) for row in db.execute("SELECT generation FROM maps").fetchall()]
    return all(one is not None and one.made == queries.count_mapped(db, one.row[0]) for one in maps)


class MovingMachine(RuleBasedStateMachine):
    """The gallery "g" answers, "s" waits; the model knows of each which examples its subjects have."""

    device = "cpu"

    @initialize(fusion=st.sampled_from(FUSIONS), keep=st.booleans())
    def start(self, fusion: str, keep: bool) -> None:
        self.keep = keep  # crops
        self.folder = Path(tempfile.mkdtemp())
        self.open()
        self.galleries.create_gallery(
            "g", encoder_digest="old", dimension=3, fusion=fusion, target_fpir=0.01, keep_crops=keep
        ).result()
        self.galleries.enroll("g", "s0", encoded("old", [1])).result()
        self.galleries.start_move("g", "s", encoder_digest="new", dimension=5).result()
        self.encoders = {"g": "old", "s": "new"}
        self.own: dict[str, list[Example]] = {"s0": pictured([1], False)}  # examples, of "g"
        self.other: dict[str, list[Example]] = {}  # of "s"
        self.negatives: dict[str, dict[str, int]] = {"g": {}, "s": {}}
        self.labels: dict[str, dict[str, str]] = {"s0": {}}
        self.purposes: dict[str, str | None] = {"s0": None}
        self.mapped: set[str] = set()  # in the successor, whichever of the two that is
        self.map = 0

    def open(self) -> None:
        options = IndexSettings(max_encodings_per_subject=4, snapshot_every_encodings=3, sweep_every_seconds=1e6)
        self.galleries = LocalGalleries.open(self.folder, device=self.device, settings=options, tau_rule=rule_of_tau)

    def teardown(self) -> None:
        if hasattr(self, "galleries"):
            self.galleries.close()
            shutil.rmtree(self.folder)

    def is_mapped(self, gallery: str, subject: str) -> bool:
        return self.encoders[gallery] == "new" and subject in self.mapped

    def drop(self, subject: str) -> None:
        self.other.pop(subject, None)
        self.negatives["s"].pop(subject, None)
        if self.encoders["s"] == "new":
            self.mapped.discard(subject)

    def gone(self, subject: str) -> None:
        self.mapped.discard(subject)
        del self.own[subject], self.labels[subject], self.purposes[subject]
        self.negatives["g"].pop(subject, None)
        self.drop(subject)

    @rule(subject=IDS, examples=VALUES, labels=LABELS | st.none(), both=st.booleans(), replaced=st.booleans())
    def enroll(
        self, subject: str, examples: list[int], labels: dict[str, str] | None, both: bool, replaced: bool
    ) -> None:
        anew = replaced or self.is_mapped("g", subject)
        if not anew and len(self.own.get(subject, [])) + len(examples) > 4:
            return
        there = [] if replaced or self.is_mapped("s", subject) else self.other.get(subject, [])
        pictures = pictured(examples, self.keep)
        self.galleries.enroll(
            *("g", subject, encoded(self.encoders["g"], examples)),
            crops=[one.crop for one in pictured(examples, True)],
            encoder_digest=self.encoders["g"],
            labels=labels,
            on_existing="replace" if replaced else "add",
            others={self.encoders["s"]: encoded(self.encoders["s"], examples)} if both else None,
        ).result()
        self.own[subject] = [*([] if anew else self.own.get(subject, [])), *pictures]
        if self.encoders["g"] == "new":
            self.mapped.discard(subject)
        if labels is not None or subject not in self.labels:
            self.labels[subject] = labels or {}
        self.purposes.setdefault(subject, None)
        if both and len(there) + len(examples) <= 4:
            self.other[subject] = there + pictures
            if self.encoders["s"] == "new":
                self.mapped.discard(subject)
        else:
            self.drop(subject)

    @rule(keep=st.booleans())
    def keep_crops(self, keep: bool) -> None:
        assert self.galleries.set_keep_crops("g", keep).result().keep_crops == keep
        assert self.galleries.get_gallery("s").keep_crops == keep
        self.keep = keep
        if not keep:
            for kept in (self.own, self.other):
                for subject, examples in kept.items():
                    kept[subject] = [Example(one) for one in examples]

    def lacking(self, subject: str) -> list[Example]:
        """What a subject has, and hasn't in "s"."""
        there = [] if self.is_mapped("s", subject) else self.other.get(subject, [])
        left, missing = [one.crop for one in there], []
        for one in self.own[subject]:
            if one.crop in left:
                left.remove(one.crop)
            else:
                missing.append(one)
        return missing

    def to_fill(self) -> dict[str, list[Example]]:
        fewer = [one for one in sorted(self.own) if len(self.other.get(one, [])) < len(self.own[one])]
        mapped = [one for one in self.own if self.is_mapped("s", one)]
        those = sorted({one for one in fewer if one not in self.other or self.keep} | set(mapped))
        found = {one: self.lacking(one) for one in those}
        return {one: missing for one, missing in found.items() if any(each.crop for each in missing)}

    @rule(fewer=st.booleans())
    def fill_from_crops(self, fewer: bool) -> None:
        """As the server does."""
        expected = self.to_fill()
        after: str | None = ""
        while after is not None:
            page = self.galleries.list_left_crops("g", page_size=2, after=after or None)
            after = page.next_after
            for left in page.subjects:
                subject, missing = left.subject_id, expected.pop(left.subject_id)
                assert [one.crop for one in left.encodings] == [one.crop for one in missing]
                taken = [one for one in left.encodings if one.crop]
                if len(taken) < len(missing) and not fewer:
                    continue
                examples = [one for one in missing if one.crop]
                future = self.galleries.enroll(
                    *("s", subject, encoded(self.encoders["s"], examples)),
                    encoder_digest=self.encoders["s"],
                    crops=[one.crop for one in taken],
                    filling=Filling(tuple(one.encoding_id for one in taken), left.beside),
                )
                there = [] if self.is_mapped("s", subject) else self.other.get(subject, [])
                if len(there) + len(examples) > 4:
                    assert isinstance(future.exception(), LimitExceeded)
                    continue
                future.result()
                if self.encoders["s"] == "new":
                    self.mapped.discard(subject)
                self.other[subject] = [*there, *pictured(examples, self.keep)]
        assert not expected

    @rule(subject=IDS, examples=VALUES)
    def fill(self, subject: str, examples: list[int]) -> None:
        there = [] if self.is_mapped("s", subject) else self.other.get(subject, [])
        if len(there) + len(examples) > 4:
            return
        future = self.galleries.enroll("s", subject, encoded(self.encoders["s"], examples), labels={"un": "used"})
        if subject not in self.own:
            assert isinstance(future.exception(), SubjectNotMoving)
            return
        future.result()
        self.other[subject] = [*there, *pictured(examples, False)]
        if self.encoders["s"] == "new":
            self.mapped.discard(subject)

    @rule(choice=st.integers(1, 2), most=st.integers(1, 3))
    def fill_by_map(self, choice: int, most: int) -> None:
        after: str | None = None
        if self.encoders["s"] != "new":
            assert isinstance(self.galleries.fill_by_map("g", *a_map(choice)).exception(), MoveConflict)
            return
        anew = self.mapped if choice != self.map else set()
        due = {one for one in self.own if one not in self.other} | anew
        done = 0
        for _ in range(20):
            step = self.galleries.fill_by_map("g", *a_map(choice), most=most, after=after).result()
            done, after = done + step.mapped, step.next_after
            if after is None:
                break
        assert (done, after) == (len(due), None)
        for subject in due:
            self.other[subject] = [Example(one) for one in self.own[subject]]
        self.mapped |= due
        self.map = choice if due else self.map

    @rule(subject=IDS, expired=st.booleans())
    def delete_subject(self, subject: str, expired: bool) -> None:
        if expired and subject in self.own:
            self.galleries.set_retention("g", subject, Retention(1.0)).result()
            self.galleries._sweeper.sweep()
        else:
            future = self.galleries.delete_subject("g", subject)
            if subject not in self.own:
                assert isinstance(future.exception(), SubjectNotFound)
                return
            future.result()
        self.gone(subject)

    @rule(subject=IDS, data=st.data())
    def delete_encoding(self, subject: str, data: st.DataObject) -> None:
        if subject not in self.own:
            return
        place = data.draw(st.integers(0, len(self.own[subject]) - 1))
        encoding = self.galleries.get_subject("g", subject).encodings[place]
        self.galleries.delete_encoding("g", subject, encoding.id).result()
        del self.own[subject][place]
        if self.own[subject]:
            self.drop(subject)
        else:
            self.gone(subject)

    @rule(subject=IDS)
    def delete_from_the_one_that_waits(self, subject: str) -> None:
        if subject in self.other:
            self.galleries.delete_subject("s", subject).result()
            self.drop(subject)

    @rule(subject=IDS, other=IDS)
    def merge(self, subject: str, other: str) -> None:
        if subject == other or not {subject, other} <= self.own.keys():
            return
        merged = self.met("g", self.own[subject], self.own[other], subject, other)
        if len(merged) > 4:
            return
        self.galleries.merge_subjects("g", subject, other).result()
        both_there = {subject, other} <= self.other.keys()
        there = self.met("s", self.other[subject], self.other[other], subject, other) if both_there else []
        if 0 < len(there) <= 4:
            self.other[other] = there
            self.merge_negatives("s", subject, other)
        else:
            self.drop(other)
        if subject not in self.mapped:
            self.mapped.discard(other)
        self.own[other] = merged
        self.merge_negatives("g", subject, other)
        self.labels[other] = {**self.labels[subject], **self.labels[other]}
        self.gone(subject)

    def met(self, gallery: str, come: list[Example], own: list[Example], subject: str, other: str) -> list[Example]:
        """What `other` has once that of `subject` came to it: mapped encodings make room for true ones."""
        from_map, has_mapped = self.is_mapped(gallery, subject), self.is_mapped(gallery, other)
        if from_map == has_mapped:
            return own + come
        return own if from_map else come

    def merge_negatives(self, gallery: str, subject: str, other: str) -> None:
        """All are of one and the same example."""
        if subject in self.negatives[gallery]:
            self.negatives[gallery][other] = 1

    @rule(subject=IDS, other=IDS)
    def move_encoding(self, subject: str, other: str) -> None:
        if subject == other or not {subject, other} <= self.own.keys():
            return
        moved = self.met("g", self.own[subject][:1], self.own[other], subject, other)
        if len(moved) > 4:
            return
        first = self.galleries.get_subject("g", subject).encodings[0]
        self.galleries.move_encodings("g", subject, other, encoding_id=first.id).result()
        del self.own[subject][0]
        self.own[other] = moved
        if self.encoders["g"] == "new" and subject not in self.mapped:
            self.mapped.discard(other)
        if self.own[subject]:
            self.drop(subject)
        else:
            self.gone(subject)

    @rule(subject=IDS, new=IDS)
    def rename(self, subject: str, new: str) -> None:
        if subject not in self.own or new in self.own:
            return
        self.galleries.rename_subject("g", subject, new).result()
        every: list[dict[str, Any]] = [self.own, self.other, self.labels, self.purposes, *self.negatives.values()]
        for kept in every:
            if subject in kept:
                kept[new] = kept.pop(subject)
        if subject in self.mapped:
            self.mapped = self.mapped - {subject} | {new}

    @rule(subject=IDS, labels=LABELS, clear=st.booleans())
    def relabel(self, subject: str, labels: dict[str, str], clear: bool) -> None:
        if subject in self.own:
            self.galleries.update_labels("g", subject, labels, clear=clear).result()
            self.labels[subject] = {**({} if clear else self.labels[subject]), **labels}

    @rule(subject=IDS, purpose=st.sampled_from(["work", None]))
    def retain(self, subject: str, purpose: str | None) -> None:
        if subject in self.own:
            self.galleries.set_retention("g", subject, Retention(TTL * 10, purpose)).result()
            self.purposes[subject] = purpose

    @rule(subject=IDS, both=st.booleans())
    def add_negative(self, subject: str, both: bool) -> None:
        if subject not in self.own:
            return
        example = {one: -encoded(one, [7])[0] for one in DIMENSIONS}
        mine, other = self.encoders["g"], self.encoders["s"]
        added = self.galleries.add_negative(
            *("g", subject, example[mine]), encoder_digest=mine, others={other: example[other]} if both else None
        ).result()
        assert added.created == (subject not in self.negatives["g"])
        if not added.created:
            return
        self.negatives["g"][subject] = 1
        if subject in self.other:
            if both:
                self.negatives["s"][subject] = 1
            else:
                self.drop(subject)

    @rule(subject=IDS)
    def delete_negative(self, subject: str) -> None:
        if subject not in self.negatives["g"]:
            return
        (negative,) = self.galleries.get_subject("g", subject).negatives
        self.galleries.delete_negative("g", subject, negative.id).result()
        del self.negatives["g"][subject]
        if subject in self.negatives["s"]:
            self.drop(subject)

    @rule(leave=st.booleans())
    def swap(self, leave: bool) -> None:
        moved = self.encoders["g"] == "new"
        future = (self.galleries.roll_back if moved else self.galleries.cut_over)("g", leave=leave)
        left = self.own.keys() - self.other.keys()
        lacking = self.negatives["g"].keys() - self.negatives["s"].keys() - left
        if not leave and (left or lacking):
            error = future.exception()
            assert isinstance(error, MoveIncomplete)
            assert (error.left, error.without_negatives) == (len(left), len(lacking))
            return
        assert future.result().id == "g"
        before = self.own
        self.own, self.other = self.other, self.own
        self.encoders["g"], self.encoders["s"] = self.encoders["s"], self.encoders["g"]
        self.negatives["g"], self.negatives["s"] = self.negatives["s"], self.negatives["g"]
        for subject in before.keys() - self.own.keys():  # they are gone from answers: the model knows them no more
            self.galleries.delete_subject("g", subject).result()
            del self.labels[subject], self.purposes[subject]
            self.drop(subject)

    @rule()
    def restart(self) -> None:
        self.galleries.close()
        assert list(check_directory(self.folder, "")) == []
        self.open()

    @invariant()
    def both_are_as_they_must_be(self) -> None:
        if not hasattr(self, "own"):
            return
        assert contents(self.galleries, "g") == self.expected("g", self.own)
        assert contents(self.galleries, "s") == self.expected("s", self.other)
        state = self.galleries.move_state("g")
        left = sorted(self.own.keys() - self.other.keys())
        lacking = sorted(self.negatives["g"].keys() - self.negatives["s"].keys() - set(left))
        assert (state.gallery.id, state.waiting.id) == ("g", "s")
        assert (state.left, state.without_negatives) == (len(left), len(lacking))
        assert state.with_crops == sum(any(each.crop for each in self.own[one]) for one in left) * self.keep
        shown = {one.subject_id for one in self.galleries.list_left_crops("s").subjects}
        assert shown == self.to_fill().keys()
        assert state.fewer_encodings == sum(len(self.other[one]) < len(self.own[one]) for one in self.other)
        assert state.mapped == len(self.mapped)
        assert self.galleries._store.read(counts_what_is_mapped)
        told = self.galleries.list_left("s").subjects
        assert [(one.subject_id, one.lacks_negatives, one.mapped) for one in told] == [
            (one, one in lacking, one in self.mapped) for one in sorted({*left, *lacking, *self.mapped})
        ]
        self.galleries.await_loaded()
        for gallery_id, kept in (("g", self.own), ("s", self.other)):
            self.answers(gallery_id, kept)

    def expected(self, gallery_id: str, kept: dict[str, list[Example]]) -> dict[str, Any]:
        return {
            one: (self.labels[one], len(examples), self.negatives[gallery_id].get(one, 0), self.purposes[one])
            for one, examples in kept.items()
        }

    def answers(self, gallery_id: str, kept: dict[str, list[Example]]) -> None:
        """Its index holds what its store does, and τ follows its size."""
        encoder, gallery = self.encoders[gallery_id], self.galleries.known(gallery_id)
        assert gallery.active.encoder_digest == encoder
        assert self.galleries.index_info(gallery_id).subjects == len(kept)
        found = asking.nearest(self.galleries, gallery_id, encoded(encoder, [2]), 5, encoder_digest=encoder)
        assert {one.subject_id for one in found.candidates[0]} == kept.keys()
        mapped = self.mapped if encoder == "new" else set()
        assert {one.subject_id for one in found.candidates[0] if one.mapped} == mapped
        assert {one.id for one in self.galleries.list_subjects(gallery_id).subjects if one.mapped} == mapped
        for one in (gallery.mapped, self.galleries.get_gallery(gallery_id).mapped, found.mapped):
            assert (0 if one is None else one.subjects) == len(mapped)
            assert one is None or (one.loss.digest, one.outdated) == (str(self.map), 0)
        for subject in sorted(mapped):
            own = self.galleries.verify(gallery_id, subject, encoded(encoder, [2]), encoder_digest=encoder)
            assert (own.candidates[0][0].mapped, own.mapped) == (True, found.mapped)


def a_map(choice: int) -> tuple[EncodingMap, MapLoss]:
    """From the former encodings of three numbers to those of five."""
    weights = np.eye(3, 5) * choice
    made = EncodingMap("ridge", 1.0, weights, np.full(5, 0.25), unit_norm=False)
    return made, MapLoss("ridge", "old", "new", str(choice), 100, 200, 50, 80, 8, 2, 1, 0, 0.5)


def paired(folder: Path) -> LocalGalleries:
    """ "g", of three subjects, moves; "s" has the first two."""
    galleries = LocalGalleries.open(folder, tau_rule=rule_of_tau)
    galleries.create_gallery("g", encoder_digest="old", dimension=3, target_fpir=0.01, quality="strict").result()
    for place in range(3):
        galleries.enroll("g", f"s{place}", encoded("old", [place + 1]), labels={"n": str(place)}).result()
    galleries.start_move("g", "s", encoder_digest="new", dimension=5).result()
    for place in range(2):
        galleries.enroll("s", f"s{place}", encoded("new", [place + 1])).result()
    return galleries


def test_the_successor_begins_with_the_settings_of_the_origin(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path, tau_rule=rule_of_tau) as galleries:
        galleries.create_gallery(
            *("g",), encoder_digest="old", dimension=3, description="d", fusion="mean", target_fpir=0.02, doubt="flag"
        ).result()
        galleries.set_least_gap("g", 0.5).result()
        galleries.set_quality("g", "strict").result()
        made = galleries.start_move("g", "s", encoder_digest="new", dimension=5, compare_share=0.25).result()
        assert made == galleries.get_gallery("s")
        assert (made.description, made.target_fpir, made.active.fusion) == ("d", 0.02, "mean")
        assert (made.active.quality, made.active.doubt, made.active.least_gap) == ("strict", "flag", 0.0)
        assert (made.active.encoder_digest, made.active.dimension, made.subjects) == ("new", 5, 0)
        assert made.active.followed == Followed(1.0, "new/0")
        move = made.move
        assert move is not None
        assert (move.other, move.answers, move.origin, move.compare_share) == ("g", False, False, 0.25)
        origin = galleries.known("g").move
        assert origin is not None
        assert (origin.other, origin.answers, origin.origin, origin.cut_over) == ("s", True, True, None)


def test_what_is_no_step_of_a_move_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        galleries.create_gallery("other", encoder_digest="old", dimension=3).result()
        before = galleries.list_galleries().galleries
        start = functools.partial(galleries.start_move, encoder_digest="new")
        for future, error in (
            (start("g", "t", dimension=5), MoveConflict),
            (start("s", "t", dimension=5), MoveConflict),
            (galleries.start_move("other", "t", encoder_digest="old", dimension=3), MoveConflict),
            (start("other", "g", dimension=5), GalleryExists),
            (start("nobody", "t", dimension=5), GalleryNotFound),
            (start("other", "t", dimension=0), ValueError),
            (start("other", "t", dimension=5, compare_share=1.5), ValueError),
            (galleries.cut_over("other"), MoveNotFound),
            (galleries.end_move("other"), MoveNotFound),
            (galleries.cut_over("s"), MoveConflict),
            (galleries.end_move("s"), MoveConflict),
            (galleries.roll_back("g"), MoveConflict),
            (galleries.cut_over("g"), MoveIncomplete),
        ):
            assert isinstance(future.exception(), error), future.exception()
        assert galleries.list_galleries().galleries == before
        for asked in (galleries.move_state, galleries.list_left):
            with pytest.raises(MoveNotFound):
                asked("other")


def test_subjects_of_the_one_that_waits_follow_those_of_the_other(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        (encoding,) = galleries.get_subject("s", "s0").encodings
        for future in (
            galleries.rename_subject("s", "s0", "new"),
            galleries.update_labels("s", "s0", {"a": "x"}),
            galleries.merge_subjects("s", "s0", "s1"),
            galleries.move_encodings("s", "s0", "s1", encoding_id=encoding.id),
            galleries.set_retention("s", "s0", Retention(None, "p")),
        ):
            error = future.exception()
            assert isinstance(error, GalleryWaits)
            assert (error.gallery_id, error.other_gallery_id) == ("s", "g")
        unknown = galleries.enroll("s", "nobody", encoded("new", [1])).exception()
        assert isinstance(unknown, SubjectNotMoving)
        assert (unknown.gallery_id, unknown.subject_id, unknown.other_gallery_id) == ("s", "nobody", "g")
        assert contents(galleries, "s") == {f"s{n}": ({"n": str(n)}, 1, 0, None) for n in range(2)}


def test_who_is_left_is_gone_from_answers_until_the_roll_back(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        assert galleries.cut_over("g", leave=True).result().active.encoder_digest == "new"
        assert contents(galleries, "g").keys() == {"s0", "s1"}
        assert contents(galleries, "s").keys() == {"s0", "s1", "s2"}
        state = galleries.move_state("s")
        assert (state.gallery.id, state.gallery.active.encoder_digest, state.left) == ("g", "new", 0)
        assert galleries.roll_back("g").result().active.encoder_digest == "old"
        assert contents(galleries, "g").keys() == {"s0", "s1", "s2"}


def test_who_was_left_is_deleted_under_the_name_that_moves(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        galleries.cut_over("g", leave=True).result()
        gone = galleries.delete_subject("g", "s2").result()
        assert (gone.encodings, gone.subject_deleted) == (1, True)
        again = galleries.delete_subject("g", "s2").exception()
        assert isinstance(again, SubjectNotFound)
        assert again.gallery_id == "g"
        galleries.roll_back("g").result()
        assert contents(galleries, "g").keys() == {"s0", "s1"}


def test_who_was_left_and_is_enrolled_anew_is_one_subject_in_both(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        galleries.cut_over("g", leave=True).result()
        examples = {one: encoded(one, [2]) for one in DIMENSIONS}
        galleries.enroll("g", "s2", examples["new"], encoder_digest="new", others=examples).result()
        assert contents(galleries, "g")["s2"] == ({}, 1, 0, None)
        assert contents(galleries, "s")["s2"] == ({}, 2, 0, None), "its former labels are no longer its own"


def test_another_that_gets_the_id_of_one_that_was_left_takes_its_place(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        galleries.cut_over("g", leave=True).result()
        galleries.rename_subject("g", "s0", "s2").result()
        assert contents(galleries, "g").keys() == {"s1", "s2"}
        assert contents(galleries, "s").keys() == {"s1"}, "of two people of one id it can't be said who is meant"


def test_no_gallery_takes_the_place_of_another_while_it_cannot_answer(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        opened = galleries._opened._opened
        for swap in (galleries.cut_over, galleries.roll_back):
            whole = opened["s"]
            opened["s"] = replace(whole, index=None)
            assert isinstance(swap("g", leave=True).exception(), IndexOutOfStep)
            opened["s"] = whole
            swap("g", leave=True).result()


@pytest.mark.parametrize("gone", ["g", "s"])
def test_a_move_of_which_an_earlier_version_deleted_one_half_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    with monkeypatch.context() as patched, paired(tmp_path) as galleries:
        patched.setattr(writer, "carried_out", lambda db, mutation: mutation.run(db))
        galleries.delete_gallery(gone).result()
    (kept,) = {"g", "s"} - {gone}
    with LocalGalleries.open(tmp_path) as galleries:
        assert galleries.known(kept) == galleries.get_gallery(kept)
        assert galleries.get_gallery(kept).move is None
        galleries.enroll(kept, "new", encoded(galleries.known(kept).active.encoder_digest, [1])).result()
        galleries.delete_gallery(kept).result()


def test_what_cannot_be_ended_now_keeps_no_store_from_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move that lost one half, and a full disk: it ends at the next start."""
    with monkeypatch.context() as patched, paired(tmp_path) as galleries:
        patched.setattr(writer, "carried_out", lambda db, mutation: mutation.run(db))
        galleries.delete_gallery("s").result()

    def full(*_: object) -> Any:
        raise StoreFull(tmp_path)

    with monkeypatch.context() as patched:
        patched.setattr(EndBrokenMove, "run", full)
        with LocalGalleries.open(tmp_path) as galleries:
            assert galleries.get_gallery("g").move is not None
    with LocalGalleries.open(tmp_path) as galleries:
        assert galleries.get_gallery("g").move is None


def test_an_enrollment_goes_by_the_encoder_of_whichever_answers(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        galleries.cut_over("g", leave=True).result()
        examples = {one: encoded(one, [2]) for one in DIMENSIONS}
        late = galleries.enroll("g", "late", examples["old"], encoder_digest="old", others=examples).result()
        assert late.created
        for gallery_id, encoder in (("g", "new"), ("s", "old")):
            found = asking.nearest(galleries, gallery_id, examples[encoder], 5, encoder_digest=encoder).candidates[0]
            assert ("late", 0.0) in {(one.subject_id, one.distance) for one in found}
        doubting = Doubting((None,), 1, 1.0, None, True)
        asked = functools.partial(galleries.enroll, "g", "later", examples["old"], encoder_digest="old")
        outdated = asked(others=examples, doubting=doubting).exception()
        assert isinstance(outdated, NeighbourGone), "they were looked for in another gallery"
        assert isinstance(asked().exception(), EncoderMismatch)
        assert isinstance(asked(others={"new": examples["new"][:0]}).exception(), ValueError)
        assert "later" not in contents(galleries, "g")


def test_a_request_is_remembered_over_a_cut_over_and_a_roll_back(tmp_path: Path) -> None:
    examples = {one: encoded(one, [2]) for one in DIMENSIONS}

    def ask(galleries: LocalGalleries, subject: str, request: str) -> Future[Enrolled]:
        return galleries.enroll(
            *("g", subject, examples["old"]),
            encoder_digest="old",
            others=examples,
            request_id=request,
            request_digest=b"1",
        )

    with paired(tmp_path) as galleries:
        ask(galleries, "one", "before").result()
        galleries.enroll("s", "s2", encoded("new", [3]), request_id="after", request_digest=b"of s").result()
        galleries.cut_over("g").result()
        again = ask(galleries, "one", "before").result()
        assert again == galleries.replay("g", "one", "before", b"1")
        assert again.replayed
        assert again.encoding_ids == tuple(one.id for one in galleries.get_subject("g", "one").encodings)
        galleries.roll_back("g").result()
        second = ask(galleries, "two", "after").result()
        assert not second.replayed, "that was another request, of another gallery"
        galleries.delete_subject("g", "one").result()
        galleries.cut_over("g").result()
        assert isinstance(ask(galleries, "one", "before").exception(), SubjectNotFound), "a retry brings nobody back"
        galleries.end_move("g").result()
        assert ask(galleries, "two", "after").result().replayed, "though the gallery that was asked is gone"
        assert isinstance(ask(galleries, "one", "before").exception(), SubjectNotFound)


def test_a_request_of_before_the_move_is_known_while_the_former_gallery_is_kept(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="old", dimension=3).result()
        ask = functools.partial(galleries.enroll, "g", "one", request_id="r", request_digest=b"1")
        first = ask(encoded("old", [1]), encoder_digest="old").result()
        galleries.start_move("g", "s", encoder_digest="new", dimension=5).result()
        galleries.enroll("s", "one", encoded("new", [1])).result()
        galleries.cut_over("g").result()
        again = ask(encoded("new", [1]), encoder_digest="new").result()
        assert (again.replayed, again.encoding_ids) == (True, first.encoding_ids)
        galleries.delete_subject("s", "one").result()
        assert not ask(encoded("new", [1]), encoder_digest="new").result().replayed, "the former one forgot it"


def test_what_only_one_of_the_two_had_room_for_was_never_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_room = OpenedGalleries._reserve

    def none_in_s(opened: OpenedGalleries, effect: Effect) -> None:
        if effect.gallery_id == "s":
            raise IndexOutOfStep("s")
        make_room(opened, effect)

    with paired(tmp_path) as galleries:
        examples = {one: encoded(one, [5]) for one in DIMENSIONS}
        ask = functools.partial(
            galleries.enroll,
            "g",
            "x",
            examples["old"],
            encoder_digest="old",
            others=examples,
            doubting=Doubting((None,), galleries.get_gallery("g").revision, 0.1, None, True),
        )
        with monkeypatch.context() as patched:
            patched.setattr(OpenedGalleries, "_reserve", none_in_s)
            assert isinstance(ask().exception(), IndexOutOfStep)
        galleries.enroll("g", "far away", encoded("old", [1])).result()  # gets the number that "x" was to have
        assert ask().result().doubts == ()
        assert contents(galleries, "s").keys() == {"s0", "s1", "x"}


@pytest.mark.parametrize("names", [(JOSE, OTHER), (OTHER, JOSE)])
def test_two_whose_ids_differ_in_spelling_only_stay_two(tmp_path: Path, names: tuple[str, str]) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="old", dimension=3).result()
        for place, name in enumerate("ab"):
            galleries.enroll("g", name, encoded("old", [place + 1]), labels={"n": name}).result()
    as_version_7(tmp_path, {"a": JOSE, "b": OTHER})
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.start_move("g", "s", encoder_digest="new", dimension=5).result()
        for name in names:
            galleries.enroll("s", name, encoded("new", [3])).result()
        assert contents(galleries, "s") == {JOSE: ({"n": "a"}, 1, 0, None), OTHER: ({"n": "b"}, 1, 0, None)}
        galleries.delete_subject("g", OTHER).result()
        assert contents(galleries, "s") == {JOSE: ({"n": "a"}, 1, 0, None)}
        galleries.cut_over("g").result()


def test_a_request_is_known_though_one_of_that_id_was_made_of_the_other_under_its_name(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        examples = {one: encoded(one, [5]) for one in DIMENSIONS}
        ask = functools.partial(
            galleries.enroll,
            "g",
            "x",
            examples["old"],
            encoder_digest="old",
            others=examples,
            request_id="photo",
        )
        ask(request_digest=b"of g").result()
        galleries.enroll("s", "x", examples["new"], request_id="photo", request_digest=b"of s").result()
        galleries.cut_over("g", leave=True).result()
        assert ask(request_digest=b"of g").result().replayed
        assert isinstance(ask(request_digest=b"another").exception(), RequestConflict)


@pytest.mark.parametrize("subject", ["there", "deleted"])
def test_a_request_is_remembered_over_the_end_of_a_move(tmp_path: Path, subject: str) -> None:
    with paired(tmp_path) as galleries:
        examples = {one: encoded(one, [5]) for one in DIMENSIONS}
        ask = functools.partial(
            galleries.enroll,
            "g",
            subject,
            examples["old"],
            encoder_digest="old",
            others=examples,
            request_id="r",
        )
        ask().result()
        galleries.cut_over("g", leave=True).result()
        if subject == "deleted":
            galleries.delete_subject("g", subject).result()
        galleries.end_move("g").result()
        before = contents(galleries, "g")
        ask().exception()
        assert contents(galleries, "g") == before, "a retry adds nothing, and brings nobody back"


@pytest.mark.parametrize("act", ["add", "delete"])
def test_the_tau_of_the_one_that_waits_follows_where_a_subject_leaves_it(tmp_path: Path, act: str) -> None:
    with paired(tmp_path) as galleries:
        examples = {one: -encoded(one, [7])[0] for one in DIMENSIONS}
        add = functools.partial(galleries.add_negative, "g", "s0", examples["old"], encoder_digest="old")
        if act == "add":
            add().result()
        else:
            negative = add(others=examples).result()
            galleries.delete_negative("g", "s0", negative.id).result()
        assert contents(galleries, "s").keys() == {"s1"}
        assert galleries.get_gallery("s").active.followed == Followed(2.0, "new/1")


def test_deleting_the_one_that_answers_deletes_both_and_deleting_the_other_ends_the_move(tmp_path: Path) -> None:
    with paired(tmp_path / "a") as galleries:
        galleries.delete_gallery("g").result()
        assert galleries.list_galleries().galleries == ()
        with pytest.raises(GalleryNotFound):
            galleries.known("s")
    with paired(tmp_path / "b") as galleries:
        galleries.delete_gallery("s").result()
        assert galleries.known("g").move is None
        galleries.enroll("g", "s0", encoded("old", [1])).result()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("cut_over", [False, True])
def test_a_move_ends(tmp_path: Path, keep: bool, cut_over: bool) -> None:
    with paired(tmp_path) as galleries:
        if cut_over:
            galleries.cut_over("g", leave=True).result()
        ended = galleries.end_move("g", keep=keep).result()
        assert ended == galleries.get_gallery("g") == galleries.known("g")
        assert (ended.active.encoder_digest, ended.move) == ("new" if cut_over else "old", None)
        assert [one.id for one in galleries.list_galleries().galleries] == (["g", "s"] if keep else ["g"])
        if keep:
            galleries.delete_subject("g", "s0").result()
            assert "s0" in contents(galleries, "s")
            galleries.rename_subject("s", "s0", "renamed").result()
    with LocalGalleries.open(tmp_path) as galleries:
        assert galleries.get_gallery("g").move is None


def test_several_at_once_are_left_and_the_tau_of_both_follows(tmp_path: Path) -> None:
    with paired(tmp_path) as galleries:
        some = [NewEncodings(f"s{place}", encoded("old", [4])) for place in range(1, 5)]
        done = galleries.enroll_many("g", some).result()
        assert [one.created for one in done if isinstance(one, Enrolled)] == [False, False, True, True]
        assert contents(galleries, "s").keys() == {"s0"}
        new = encoded("new", [4])
        enrolled, refused = galleries.enroll_many("s", [NewEncodings("s4", new), NewEncodings("x", new)]).result()
        assert isinstance(enrolled, Enrolled)
        assert isinstance(refused, SubjectNotMoving)
        for gallery_id in ("g", "s"):
            gallery = galleries.get_gallery(gallery_id)
            encoder, size = gallery.active.encoder_digest, gallery.subjects
            assert gallery.active.followed == Followed(1.0 + size, f"{encoder}/{size}")


def test_the_audit_trail_tells_each_step_and_what_went_elsewhere_too(tmp_path: Path) -> None:
    with acting_as("key:me"), paired(tmp_path) as galleries:
        galleries.delete_subject("g", "s0").result()
        galleries.cut_over("g", leave=True).result()
        galleries.roll_back("g", leave=True).result()
        galleries.end_move("g").result()
    told = [json.loads(line) for line in read_trail(tmp_path)]
    assert [(one["did"], one["gallery"], one.get("also_in")) for one in told[-5:]] == [
        ("enroll", "s", None),
        ("delete", "g", ["s"]),
        ("cut-over", "g", None),
        ("roll-back", "g", None),
        ("end-move", "g", ["s"]),
    ]
    (start,) = [one for one in told if one["did"] == "start-move"]
    assert (start["gallery"], start["successor"], start["model"]) == ("g", "s", "new")


@pytest.mark.parametrize("lost", ["g", "s"])
def test_a_move_ends_where_a_repair_has_but_one_of_the_two(tmp_path: Path, lost: str) -> None:
    data_dir = tmp_path / "data"
    paired(data_dir).close()
    with sqlite3.connect(data_dir / "store.sqlite3") as db:
        db.execute("UPDATE galleries SET description = 'changed' WHERE id = ?", (lost,))
    db.close()
    repair(data_dir, "")
    (kept,) = {"g", "s"} - {lost}
    with LocalGalleries.open(data_dir) as galleries:
        assert [one.id for one in galleries.list_galleries().galleries] == [kept]
        assert galleries.get_gallery(kept).move is None
        galleries.rename_subject(kept, "s0", "renamed").result()


def test_both_galleries_are_as_a_model_has_them() -> None:
    run_state_machine_as_test(MovingMachine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))
