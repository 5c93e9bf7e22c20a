"""Galleries against a dictionary: whatever is done, in whatever order, through restarts and harmed snapshots."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from oneglance_core.fusion import FUSIONS
from oneglance_index import (
    Candidate,
    EncodingNotFound,
    LocalGalleries,
    Moved,
    NegativeEnrolled,
    NegativeOfTheOther,
    OnExisting,
    OpenProgress,
    RequestConflict,
    SameSubject,
    SubjectExists,
    SubjectFilter,
    SubjectNotFound,
)
from oneglance_index.search import filtered, flat
from tests.index import asking
from tests.index.brute_force import by_template, distance, nearest

DIMENSION = 3
SUBJECTS = st.sampled_from([f"s{i}" for i in range(6)])
# Few values, so that duplicates and equal distances are common.
VECTOR = st.lists(st.sampled_from([-1.0, 0.5, 1.0, 3e-9]), min_size=DIMENSION, max_size=DIMENSION)
VECTORS = st.lists(VECTOR, min_size=1, max_size=4)
FILTERS = st.builds(
    SubjectFilter,
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"])), max_size=1).map(tuple),
    st.sampled_from(["", "", "s", "s1", "t"]),
)
LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y"]), max_size=2)


class GalleryMachine(RuleBasedStateMachine):
    @initialize(fusion=st.sampled_from(FUSIONS))
    def start(self, fusion: str) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.galleries = LocalGalleries.open(self.folder)
        self.galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION, fusion=fusion).result()
        self.fusion = fusion
        self.model: dict[str, dict[int, Any]] = {}
        self.age: list[str] = []  # the subjects, oldest first
        self.labels: dict[str, dict[str, str]] = {}
        self.negatives: dict[str, dict[int, Any]] = {}
        self.requests: dict[str, tuple[bytes, tuple[str, ...], str] | None] = {}  # None: its subject was deleted since
        self.threshold: float | None = None
        self.thresholds: list[tuple[float | None, str | None]] = []
        self.revision = 0
        self.highest = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.galleries.close()
            shutil.rmtree(self.folder)

    @rule(
        subject=SUBJECTS,
        values=VECTORS,
        on_existing=st.sampled_from(["add", "replace", "fail"]),
        request=st.none() | st.sampled_from(["r1", "r2"]),
        digest=st.sampled_from([b"1", b"2"]),
        labels=LABELS | st.none(),
    )
    def enroll(
        self,
        subject: str,
        values: list[Any],
        on_existing: OnExisting,
        request: str | None,
        digest: bytes,
        labels: dict[str, str] | None,
    ) -> None:
        vectors = np.array(values, np.float32)
        future = self.galleries.enroll(
            "g", subject, vectors, on_existing=on_existing, request_id=request, request_digest=digest, labels=labels
        )
        if request in self.requests:
            known = self.requests[request]
            if known is None:
                assert isinstance(future.exception(), SubjectNotFound)
            elif known[0] != digest:
                assert isinstance(future.exception(), RequestConflict)
            else:
                assert (future.result().encoding_ids, future.result().replayed) == (known[1], True)
                assert future.result().subject_id == known[2]
            return
        if subject in self.model and on_existing == "fail":
            assert isinstance(future.exception(), SubjectExists)
            return
        enrolled = future.result()
        assert enrolled.created == (subject not in self.model)
        self.revision += 1
        numbers = [int(encoding) for encoding in enrolled.encoding_ids]
        assert numbers == sorted(numbers)
        assert numbers[0] > self.highest
        self.highest = numbers[-1]
        held = {} if on_existing == "replace" else self.model.get(subject, {})
        if subject not in self.model:
            self.age.append(subject)
        self.model[subject] = held | dict(zip(numbers, vectors, strict=True))
        self.labels.setdefault(subject, {})
        if labels is not None:
            self.labels[subject] = labels
        if request is not None:
            self.requests[request] = (digest, enrolled.encoding_ids, subject)

    def gone(self, subject: str) -> None:
        """Nothing is known any more of the requests that it was enrolled by."""
        self.age.remove(subject)
        del self.labels[subject]
        self.negatives.pop(subject, None)
        for request, known in self.requests.items():
            if known is not None and known[2] == subject:
                self.requests[request] = None

    @rule(subject=SUBJECTS)
    def delete_subject(self, subject: str) -> None:
        future = self.galleries.delete_subject("g", subject)
        if subject not in self.model:
            assert isinstance(future.exception(), SubjectNotFound)
            return
        assert future.result().encodings == len(self.model.pop(subject))
        self.gone(subject)
        self.revision += 1

    @rule(subject=SUBJECTS, data=st.data())
    def delete_encoding(self, subject: str, data: st.DataObject) -> None:
        held = self.model.get(subject, {})
        number = data.draw(st.sampled_from(sorted(held)) if held else st.just(1))
        future = self.galleries.delete_encoding("g", subject, str(number))
        if not held:
            assert isinstance(future.exception(), SubjectNotFound)
            return
        del held[number]
        if not held:
            del self.model[subject]
            self.gone(subject)
        assert future.result().subject_deleted == (not held)
        self.revision += 1
        again = self.galleries.delete_encoding("g", subject, str(number)).exception()
        assert isinstance(again, EncodingNotFound if held else SubjectNotFound)

    def called(self, subject: str, other: str, ids: Mapping[str, str]) -> None:
        """Requests that enrolled a subject are told of another one, and encodings by these ids."""
        for request, known in self.requests.items():
            if known is not None and known[2] == subject:
                self.requests[request] = (known[0], tuple(ids.get(one, one) for one in known[1]), other)

    @rule(subject=SUBJECTS, other=SUBJECTS)
    def rename(self, subject: str, other: str) -> None:
        error = self.galleries.rename_subject("g", subject, other).exception()
        if subject not in self.model:
            assert isinstance(error, SubjectNotFound)
        elif other != subject and other in self.model:
            assert isinstance(error, SubjectExists)
        elif other != subject:
            assert error is None
            self.revision += 1
            self.model[other] = self.model.pop(subject)
            self.labels[other] = self.labels.pop(subject)
            self.negatives[other] = self.negatives.pop(subject, {})
            self.age[self.age.index(subject)] = other
            self.called(subject, other, {})

    @rule(subject=SUBJECTS, labels=LABELS, removed=st.lists(st.sampled_from("ab"), max_size=2), clear=st.booleans())
    def relabel(self, subject: str, labels: dict[str, str], removed: list[str], clear: bool) -> None:
        error = self.galleries.update_labels("g", subject, labels, removed=removed, clear=clear).exception()
        if subject not in self.model:
            assert isinstance(error, SubjectNotFound)
            return
        assert error is None
        kept = {} if clear else {key: value for key, value in self.labels[subject].items() if key not in removed}
        if kept | labels != self.labels[subject]:
            self.revision += 1
        self.labels[subject] = kept | labels

    @rule(subject=SUBJECTS, vector=VECTOR)
    def negate(self, subject: str, vector: list[float]) -> None:
        negative = np.array(vector, np.float32)
        future = self.galleries.add_negative("g", subject, negative)
        if subject not in self.model:
            assert isinstance(future.exception(), SubjectNotFound)
        elif self.has(self.model[subject], negative):
            assert isinstance(future.exception(), NegativeEnrolled)
        elif future.result().created:
            self.revision += 1
            self.negatives.setdefault(subject, {})[int(future.result().id)] = negative

    def has(self, held: Mapping[int, Any], vector: Any) -> bool:
        return any((one == vector).all() for one in held.values())

    def apart(self, subject: str, other: str, moved: Mapping[int, Any]) -> bool:
        """Whether what is to come to `other` is one of its negatives."""
        return any(self.has(moved, negative) for negative in self.negatives.get(other, {}).values())

    @rule(subject=SUBJECTS, other=SUBJECTS)
    def merge(self, subject: str, other: str) -> None:
        future = self.galleries.merge_subjects("g", subject, other)
        if subject not in self.model or other not in self.model:
            assert isinstance(future.exception(), SubjectNotFound)
            return
        if subject == other:
            assert isinstance(future.exception(), SameSubject)
            return
        if self.apart(subject, other, self.model[subject]) or self.apart(other, subject, self.model[other]):
            assert isinstance(future.exception(), NegativeOfTheOther)
            return
        self.take(future.result(), subject, other, self.model[subject])
        self.labels[other] = self.labels[subject] | self.labels[other]
        own = self.negatives.setdefault(other, {})
        new = self.negatives.get(subject, {}).items()
        own |= {number: one for number, one in new if not self.has(own, one)}
        del self.model[subject]
        self.called(subject, other, future.result().encoding_ids)
        self.gone(subject)

    @rule(subject=SUBJECTS, other=SUBJECTS, data=st.data())
    def move(self, subject: str, other: str, data: st.DataObject) -> None:
        held = self.model.get(subject, {})
        number = data.draw(st.sampled_from(sorted(held)) if held else st.just(1))
        future = self.galleries.move_encodings("g", subject, other, encoding_id=str(number))
        if not held or other not in self.model:
            assert isinstance(future.exception(), SubjectNotFound)
            return
        if subject == other:
            assert isinstance(future.exception(), SameSubject)
            return
        if self.apart(subject, other, {number: held[number]}):
            assert isinstance(future.exception(), NegativeOfTheOther)
            return
        self.take(future.result(), subject, other, {number: held[number]})
        del held[number]
        assert future.result().subject_deleted == (not held)
        self.called(subject, other if not held else subject, future.result().encoding_ids)
        if not held:
            del self.model[subject]
            self.gone(subject)

    def take(self, moved: Moved, subject: str, other: str, what: Mapping[int, Any]) -> None:
        """`other` has these encodings, under their new numbers."""
        self.revision += 1
        assert moved.encoding_ids.keys() == {str(number) for number in what}
        numbers = [int(moved.encoding_ids[str(number)]) for number in sorted(what)]
        assert numbers == sorted(numbers)
        assert numbers[0] > self.highest
        self.highest = numbers[-1]
        self.model[other] |= {new: what[old] for new, old in zip(numbers, sorted(what), strict=True)}

    @rule(threshold=st.none() | st.sampled_from([0.0, 0.25, 4.0]), calibration=st.none() | st.sampled_from(["a", "b"]))
    def set_threshold(self, threshold: float | None, calibration: str | None) -> None:
        self.threshold = threshold
        self.thresholds.append((threshold, calibration))
        self.revision += 1
        self.galleries.set_threshold("g", threshold, calibration).result()

    @rule(fusion=st.sampled_from(FUSIONS))
    def set_fusion(self, fusion: str) -> None:
        self.galleries.set_fusion("g", fusion).result()
        if fusion == self.fusion:
            return
        self.fusion = fusion
        self.revision += 1
        if self.threshold is not None:
            self.threshold = None
            self.thresholds.append((None, None))

    @rule()
    def compact(self) -> None:
        self.galleries.compact()

    @rule(
        crash=st.booleans(),
        harm=st.sampled_from(["none", "none", "drop", "truncate", "flip"]),
        at=st.floats(0, 0.999),
    )
    def restart(self, crash: bool, harm: str, at: float) -> None:
        if crash:  # no snapshots taken
            self.galleries._upkeep.close(until=0)
            self.galleries._store.close()
            self.galleries._pool.shutdown()
        else:
            self.galleries.close()
        snapshots = list(self.folder.glob("snapshots/*.snap"))
        for path in snapshots:
            content = bytearray(path.read_bytes())
            if harm == "drop":
                path.unlink()
            elif harm == "truncate":
                path.write_bytes(content[: int(at * len(content))])
            elif harm == "flip":
                content[int(at * len(content))] ^= 0x10
                path.write_bytes(content)
        seen: list[OpenProgress] = []
        self.galleries = LocalGalleries.open(self.folder, progress=seen.append)
        assert (seen[-1].source == "snapshot") == (bool(snapshots) and harm == "none")

    def passes(self, subject: str, among: SubjectFilter) -> bool:
        labels = self.labels[subject]
        return subject.startswith(among.id_prefix) and all(labels.get(key) == value for key, value in among.labels)

    @rule(subject=SUBJECTS, among=FILTERS)
    def delete_if(self, subject: str, among: SubjectFilter) -> None:
        future = self.galleries.delete_subject("g", subject, among=among)
        if subject not in self.model or not self.passes(subject, among):
            assert isinstance(future.exception(), SubjectNotFound)
            return
        assert future.result().encodings == len(self.model.pop(subject))
        self.gone(subject)
        self.revision += 1

    @rule(among=FILTERS, label=st.sampled_from("abc"), size=st.integers(1, 4))
    def list_them(self, among: SubjectFilter, label: str, size: int) -> None:
        those = sorted(one for one in self.model if self.passes(one, among))
        assert self.galleries.subject_ids("g", among) == those
        counts = self.galleries.count_label("g", label, among)
        values = [self.labels[one].get(label) for one in those]
        assert (counts.subjects, counts.without, counts.revision) == (len(those), values.count(None), self.revision)
        assert counts.values == {value: values.count(value) for value in values if value is not None}
        seen: list[str] = []
        after: str | None = None
        while True:
            page = self.galleries.list_subjects("g", page_size=size, after=after, among=among)
            seen += [one.id for one in page.subjects]
            after = page.next_after
            if after is None:
                break
        assert seen == those

    @rule(probe=VECTOR, k=st.integers(1, 8), among=FILTERS)
    def search(self, probe: list[float], k: int, among: SubjectFilter) -> None:
        vector = np.array([probe], np.float32)
        rows = [(s, n, v) for s in self.age if self.passes(s, among) for n, v in self.model[s].items()]
        if self.fusion != "nearest":
            self.search_templates(rows, vector, k, among)
            return
        answer = asking.nearest(self.galleries, "g", vector, k, among=among, labels=True)
        assert answer.among == (None if among == SubjectFilter() else len({row[0] for row in rows}))
        found = answer.candidates[0]
        assert [c.labels for c in found] == [self.labels[c.subject_id] for c in found]
        every = nearest(rows, vector[0], len(rows))
        assert [(c.subject_id, c.encoding_id, c.distance) for c in found] == self.first(every, vector[0], k)
        if self.threshold is not None:
            within = asking.matches(self.galleries, "g", vector, self.threshold, k, among=among)
            expected = self.given(nearest(rows, vector[0], len(rows), self.threshold), vector[0])
            found = within.matches[0]
            assert [(c.subject_id, c.encoding_id, c.distance) for c in found] == expected[:k]
            assert within.truncated[0] == (len(expected) > k)

    def blocked(self, subject: str, probe: Any) -> bool:
        """Whether one of its negatives is nearer than each of its encodings."""
        negatives = [distance(one, probe) for one in self.negatives.get(subject, {}).values()]
        return bool(negatives) and min(negatives) < min(distance(one, probe) for one in self.model[subject].values())

    def given(self, ranked: Sequence[Any], probe: Any) -> list[Any]:
        return [one for one in ranked if not self.blocked(one[0], probe)]

    def first(self, ranked: Sequence[Any], probe: Any, k: int) -> list[Any]:
        """To the k-th that isn't blocked."""
        found: list[Any] = []
        for one in ranked:
            if len(self.given(found, probe)) == k:
                break
            found.append(one)
        return found

    def search_templates(self, rows: Sequence[tuple[str, int, Any]], probe: Any, k: int, among: SubjectFilter) -> None:
        def same(found: Sequence[Candidate], expected: Sequence[tuple[str, float, float]]) -> None:
            assert [(c.subject_id, c.distance) for c in found] == [one[:2] for one in expected]
            assert [c.score for c in found] == pytest.approx([one[2] for one in expected], rel=1e-9, abs=1e-12)

        ranked = by_template(rows, probe[0], self.fusion)
        same(asking.nearest(self.galleries, "g", probe, k, among=among).candidates[0], self.first(ranked, probe[0], k))
        for _, _, score in ranked[:2]:
            within = score + 1e-6  # between scores: how the last digits are rounded is not at stake
            expected = self.given(by_template(rows, probe[0], self.fusion, within), probe[0])
            found = asking.matches(self.galleries, "g", probe, within, k, among=among)
            same(found.matches[0], expected[:k])
            assert found.truncated[0] == (len(expected) > k)
        for subject, own, score in ranked if among == SubjectFilter() else ():
            (verified,) = self.galleries.verify("g", subject, probe).candidates[0]
            same([verified], [(subject, own, score)])

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "galleries"):
            return
        gallery = self.galleries.get_gallery("g")
        info = self.galleries.index_info("g")
        encodings = sum(map(len, self.model.values()))
        assert (gallery.subjects, gallery.encodings) == (len(self.model), encodings)
        assert (info.subjects, info.encodings) == (len(self.model), encodings)
        assert gallery.revision == info.revision == self.revision
        assert gallery.active.threshold == self.threshold
        assert gallery.active.fusion == self.fusion
        assert gallery.active.threshold_revision == len(self.thresholds)
        kept = self.galleries.list_thresholds("g", page_size=1000).versions
        assert [(v.threshold, v.calibration) for v in reversed(kept)] == self.thresholds
        fitted = [(i + 1, calibration) for i, (_, calibration) in enumerate(self.thresholds) if calibration]
        assert (gallery.active.calibration_revision, gallery.active.calibration) == (
            fitted[-1] if fitted else (0, None)
        )
        page = self.galleries.list_subjects("g", page_size=10)
        stored = {s.id: [int(e.id) for e in s.encodings] for s in page.subjects}
        assert stored == {subject: sorted(held) for subject, held in self.model.items()}
        assert {s.id: s.labels for s in page.subjects} == self.labels
        negatives = {s.id: {int(n.id) for n in s.negatives} for s in page.subjects if s.negatives}
        assert negatives == {subject: set(held) for subject, held in self.negatives.items() if held}


@pytest.mark.parametrize("few", [0, 16])
def test_galleries_agree_with_the_model(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(filtered, "_FEW", few)  # 0: those whom a filter lets through are compared by themselves
    monkeypatch.setattr(flat, "_STEP_BYTES", 16)  # a row or two: compactions and what is pending take many steps
    run_state_machine_as_test(GalleryMachine, settings=settings(max_examples=40, stateful_step_count=25))
