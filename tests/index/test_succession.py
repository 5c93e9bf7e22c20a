"""A gallery moves to another encoder: two galleries against a plain model, through restarts; and step by step what each
does where the model has no opinion."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from oneglance_core.fusion import FUSIONS
from oneglance_index import (
    IndexSettings,
    LocalGalleries,
    MoveIncomplete,
    Retention,
    SubjectNotFound,
    SubjectNotMoving,
    check_directory,
)
from oneglance_index.records import Followed
from oneglance_index.store.following import Followable
from tests.index import asking

DIMENSIONS = {"old": 3, "new": 5}
IDS = st.sampled_from([f"s{i}" for i in range(5)])
VALUES = st.lists(st.integers(1, 5), min_size=1, max_size=3)  # examples: what each encoder makes of one is below
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
TTL = 1e9


def encoded(encoder: str, examples: list[int]) -> Any:
    """What an encoder makes of examples, float32 [n, D]."""
    dimension = DIMENSIONS[encoder]
    return np.stack([np.eye(dimension, dtype=np.float32)[one % dimension] * one for one in examples])


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


class MovingMachine(RuleBasedStateMachine):
    """The gallery "g" answers, "s" waits; the model knows of each which examples its subjects have."""

    @initialize(fusion=st.sampled_from(FUSIONS))
    def start(self, fusion: str) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.open()
        self.galleries.create_gallery("g", encoder_digest="old", dimension=3, fusion=fusion, target_fpir=0.01).result()
        self.galleries.enroll("g", "s0", encoded("old", [1])).result()
        self.galleries.start_move("g", "s", encoder_digest="new", dimension=5).result()
        self.encoders = {"g": "old", "s": "new"}
        self.own: dict[str, list[int]] = {"s0": [1]}  # examples, of "g"
        self.other: dict[str, list[int]] = {}  # of "s"
        self.negatives: dict[str, dict[str, int]] = {"g": {}, "s": {}}
        self.labels: dict[str, dict[str, str]] = {"s0": {}}
        self.purposes: dict[str, str | None] = {"s0": None}

    def open(self) -> None:
        options = IndexSettings(max_encodings_per_subject=4, snapshot_every_encodings=3, sweep_every_seconds=1e6)
        self.galleries = LocalGalleries.open(self.folder, settings=options, tau_rule=rule_of_tau)

    def teardown(self) -> None:
        if hasattr(self, "galleries"):
            self.galleries.close()
            shutil.rmtree(self.folder)

    def drop(self, subject: str) -> None:
        self.other.pop(subject, None)
        self.negatives["s"].pop(subject, None)

    def gone(self, subject: str) -> None:
        del self.own[subject], self.labels[subject], self.purposes[subject]
        self.negatives["g"].pop(subject, None)
        self.drop(subject)

    @rule(subject=IDS, examples=VALUES, labels=LABELS | st.none(), both=st.booleans(), replaced=st.booleans())
    def enroll(
        self, subject: str, examples: list[int], labels: dict[str, str] | None, both: bool, replaced: bool
    ) -> None:
        if not replaced and len(self.own.get(subject, [])) + len(examples) > 4:
            return
        self.galleries.enroll(
            *("g", subject, encoded(self.encoders["g"], examples)),
            encoder_digest=self.encoders["g"],
            labels=labels,
            on_existing="replace" if replaced else "add",
            others={self.encoders["s"]: encoded(self.encoders["s"], examples)} if both else None,
        ).result()
        self.own[subject] = examples if replaced else self.own.get(subject, []) + examples
        if labels is not None or subject not in self.labels:
            self.labels[subject] = labels or {}
        self.purposes.setdefault(subject, None)
        there = [] if replaced else self.other.get(subject, [])
        if both and len(there) + len(examples) <= 4:
            self.other[subject] = there + examples
        else:
            self.drop(subject)

    @rule(subject=IDS, examples=VALUES)
    def fill(self, subject: str, examples: list[int]) -> None:
        if len(self.other.get(subject, [])) + len(examples) > 4:
            return
        future = self.galleries.enroll("s", subject, encoded(self.encoders["s"], examples), labels={"un": "used"})
        if subject not in self.own:
            assert isinstance(future.exception(), SubjectNotMoving)
            return
        future.result()
        self.other[subject] = self.other.get(subject, []) + examples

    @rule(subject=IDS, expired=st.booleans())
    def delete_subject(self, subject: str, expired: bool) -> None:
        if expired and subject in self.own:
            self.galleries.set_retention("g", subject, Retention(1.0)).result()
            self.galleries._sweep()
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
        if len(self.own[subject]) + len(self.own[other]) > 4:
            return
        self.galleries.merge_subjects("g", subject, other).result()
        if {subject, other} <= self.other.keys() and len(self.other[subject]) + len(self.other[other]) <= 4:
            self.other[other] += self.other[subject]
            self.merge_negatives("s", subject, other)
        else:
            self.drop(other)
        self.own[other] += self.own[subject]
        self.merge_negatives("g", subject, other)
        self.labels[other] = {**self.labels[subject], **self.labels[other]}
        self.gone(subject)

    def merge_negatives(self, gallery: str, subject: str, other: str) -> None:
        """All are of one and the same example."""
        if subject in self.negatives[gallery]:
            self.negatives[gallery][other] = 1

    @rule(subject=IDS, other=IDS)
    def move_encoding(self, subject: str, other: str) -> None:
        if subject == other or not {subject, other} <= self.own.keys() or len(self.own[other]) == 4:
            return
        first = self.galleries.get_subject("g", subject).encodings[0]
        self.galleries.move_encodings("g", subject, other, encoding_id=first.id).result()
        self.own[other].append(self.own[subject].pop(0))
        if self.own[subject]:
            self.drop(subject)
        else:
            self.gone(subject)

    @rule(subject=IDS, new=IDS)
    def rename(self, subject: str, new: str) -> None:
        if subject not in self.own or new in self.own:
            return
        self.galleries.rename_subject("g", subject, new).result()
        for kept in (self.own, self.other, self.labels, self.purposes, *self.negatives.values()):
            if subject in kept:
                kept[new] = kept.pop(subject)  # type: ignore[index, arg-type]  # of its own kind

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
            del self.other[subject], self.labels[subject], self.purposes[subject]
            self.negatives["s"].pop(subject, None)

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
        assert state.fewer_encodings == sum(len(self.other[one]) < len(self.own[one]) for one in self.other)
        told = self.galleries.list_left("s").subjects
        assert [(one.subject_id, one.present) for one in told] == sorted(
            [(one, False) for one in left] + [(one, True) for one in lacking]
        )
        self.galleries.await_loaded()
        for gallery_id, kept in (("g", self.own), ("s", self.other)):
            self.answers(gallery_id, kept)

    def expected(self, gallery_id: str, kept: dict[str, list[int]]) -> dict[str, Any]:
        return {
            one: (self.labels[one], len(examples), self.negatives[gallery_id].get(one, 0), self.purposes[one])
            for one, examples in kept.items()
        }

    def answers(self, gallery_id: str, kept: dict[str, list[int]]) -> None:
        """Its index holds what its store does, and τ follows its size."""
        encoder, gallery = self.encoders[gallery_id], self.galleries.known(gallery_id)
        assert gallery.active.encoder_digest == encoder
        assert self.galleries.index_info(gallery_id).subjects == len(kept)
        found = asking.nearest(self.galleries, gallery_id, encoded(encoder, [2]), 5, encoder_digest=encoder)
        assert {one.subject_id for one in found.candidates[0]} == kept.keys()


def test_both_galleries_are_as_a_model_has_them() -> None:
    run_state_machine_as_test(MovingMachine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))
