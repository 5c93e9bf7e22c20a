"""LocalGalleries keep every promise of the conformance suite; and the suite notices when one is broken.

BROKEN has, for each promise, stores that break only that one: they fail that check, and pass all others.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_core.pair_head import PairHead
from oneglance_index import (
    EVERYBODY,
    ApproximationState,
    Candidate,
    Deleted,
    DeletedGallery,
    Doubt,
    Doubting,
    Encoding,
    Enrolled,
    Found,
    Gallery,
    GalleryError,
    GalleryStore,
    Generation,
    IndexSettings,
    LabelCounts,
    Likeness,
    LocalGalleries,
    Negative,
    Neighbour,
    NewEncodings,
    Note,
    OnExisting,
    Search,
    Subject,
    SubjectFilter,
    SubjectPage,
    ThresholdVersion,
)
from tests.index.conformance import MAX_CANDIDATES, MAX_ENCODINGS, MAX_NEGATIVES, MAX_PAGE_BYTES, PROMISES, Trial
from tests.index.toy_store import Disk, Kept, Member, State, ToyStore
from tests.server.sharing import Remotely

Vectors = NDArray[np.float32]
SETTINGS = IndexSettings(
    max_encodings_per_subject=MAX_ENCODINGS,
    max_negatives_per_subject=MAX_NEGATIVES,
    max_candidates=MAX_CANDIDATES,
    max_page_bytes=MAX_PAGE_BYTES,
)


@pytest.mark.parametrize("restarting", [False, True], ids=["fresh", "reopened"])
@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize("name", PROMISES)
def test_galleries_keep_every_promise(tmp_path: Path, name: str, where: str, restarting: bool) -> None:
    def open() -> GalleryStore:
        if where == "remote":
            return cast(GalleryStore, Remotely(tmp_path, SETTINGS))
        return LocalGalleries.open(tmp_path, settings=SETTINGS)

    trial = Trial(open, restarting)
    try:
        PROMISES[name](trial)
    finally:
        trial.store.close()


BROKEN: list[tuple[str, type[ToyStore]]] = []


def breaks(promise: str) -> Callable[[type[ToyStore]], type[ToyStore]]:
    def note(store: type[ToyStore]) -> type[ToyStore]:
        BROKEN.append((promise, store))
        return store

    return note


@breaks("a_match_is_at_a_distance_of_at_most_within")
class BoundaryLeftOut(ToyStore):
    def matches(self, distance: float, within: float) -> bool:
        return distance < within


@breaks("a_match_is_at_a_distance_of_at_most_within")
class TakesZeroForNothing(ToyStore):
    def answer(self, kept: Kept, search: Search) -> Found:
        found = super().answer(kept, search)
        return found if search.within else replace(found, matches=((),) * len(found.matches))


@breaks("a_match_is_at_a_distance_of_at_most_within")
class RoundsTheBoundary(ToyStore):
    def matches(self, distance: float, within: float) -> bool:
        return bool(distance <= np.float32(within))


@breaks("of_many_each_is_enrolled_or_refused_by_itself")
class EndsAtTheFirstError(ToyStore):
    def enroll_many(self, gallery_id: str, subjects: Sequence[NewEncodings], **how: Any) -> Any:
        done = super().enroll_many(gallery_id, subjects[:1], **how)
        (first,) = done.result() if subjects else [None]
        if first is None or isinstance(first, Exception):
            return done
        rest = self.enroll_many(gallery_id, subjects[1:], **how)
        rest.result().insert(0, first)
        return rest


@breaks("distances_are_those_of_float64")
class CancelledDistances(ToyStore):
    def distances(self, vectors: Vectors, probe: Vectors) -> Vectors:
        cancelled: Vectors = (vectors**2).sum(1) + (probe**2).sum() - 2 * (vectors @ probe)
        return np.where(cancelled > 0, cancelled, np.float32(0))


@breaks("distances_are_those_of_float64")
class DistancesOfFloat32(ToyStore):
    def distances(self, vectors: Vectors, probe: Vectors) -> Vectors:
        return np.asarray(((vectors - probe) ** 2).sum(1), np.float32)


@breaks("truncated_says_that_there_are_more_matches")
class NeverTruncated(ToyStore):
    def truncated(self, matches: int, search: Search) -> bool:
        return False


@breaks("truncated_says_that_there_are_more_matches")
class TruncatedAtTheLimit(ToyStore):
    def truncated(self, matches: int, search: Search) -> bool:
        return search.within is not None and matches >= search.limit


@breaks("an_exact_store_keeps_the_nearest_matches")
class KeepsTheFarthestMatches(ToyStore):
    def answer(self, kept: Kept, search: Search) -> Found:
        found = super().answer(kept, search)
        if not any(found.truncated):
            return found
        everyone = super().answer(kept, replace(search, limit=MAX_CANDIDATES)).matches
        return replace(found, matches=tuple(one[-search.limit :] for one in everyone))


@breaks("candidates_come_nearest_first")
class FarthestFirst(ToyStore):
    def listed(self, near: Sequence[Candidate], limit: int) -> tuple[Candidate, ...]:
        return tuple(sorted(near[:limit], key=lambda one: (-one.distance, int(one.encoding_id or 0))))


@breaks("candidates_come_nearest_first")
class MatchesByAge(ToyStore):
    def answer(self, kept: Kept, search: Search) -> Found:
        found = super().answer(kept, search)
        by_age = (sorted(one, key=lambda match: int(match.encoding_id or 0)) for one in found.matches)
        return replace(found, matches=tuple(map(tuple, by_age)))


@breaks("an_exact_store_finds_the_nearest")
class MissesSome(ToyStore):
    def ranked(self, kept: Kept, probe: Vectors) -> list[Candidate]:
        found = super().ranked(kept, probe)
        return found[1:] if len(found) == 120 else found


@breaks("an_exact_store_orders_ties_by_age")
class NewestFirst(ToyStore):
    def place(self, one: Candidate) -> tuple[float, int]:
        return one.distance, -int(one.encoding_id)


@breaks("one_subject_has_one_place")
class PlaceForEachEncoding(ToyStore):
    def places(self, name: str, member: Member, probe: Vectors) -> list[Candidate]:
        return [
            self.nearest(name, replace(member, encodings={number: one}), probe)
            for number, one in member.encodings.items()
        ]


@breaks("one_subject_has_one_place")
class MatchesEachEncoding(ToyStore):
    def answer(self, kept: Kept, search: Search) -> Found:
        found = super().answer(kept, search)
        twice = tuple(
            tuple(match for match in one for _ in range(1 + (match.subject_id == "crowd"))) for one in found.matches
        )
        return replace(found, matches=twice)


@breaks("a_subject_is_as_near_as_its_nearest_encoding")
class FirstEncodingCounts(ToyStore):
    def nearest(self, name: str, member: Member, probe: Vectors) -> Candidate:
        first = next(iter(member.encodings.items()))
        return super().nearest(name, replace(member, encodings=dict([first])), probe)


@breaks("verify_measures_the_nearest_encoding_of_one_subject")
class VerifiesTheFirstEncoding(ToyStore):
    def verified(self, subject_id: str, member: Member, probe: Vectors) -> Candidate:
        first = next(iter(member.encodings.items()))
        return super().verified(subject_id, replace(member, encodings=dict([first])), probe)


@breaks("by_mean_a_subject_is_as_near_as_its_template")
class MeanNotStretched(ToyStore):
    def stretched(self, mean: NDArray[np.float64], length: float) -> NDArray[np.float64]:
        return mean


@breaks("a_template_follows_from_the_present_encodings")
class TemplateOfAllThereEverWere(ToyStore):
    def load(self, state: State) -> State:
        self.most: dict[tuple[str, float], Member] = {}
        return state

    def template(self, name: str, member: Member) -> Vectors:
        most = self.most.setdefault((name, member.created), member)
        if len(member.encodings) > len(most.encodings):
            most = self.most[name, member.created] = member
        return super().template(name, most)


@breaks("by_margin_other_subjects_count_against_one")
class AllOthersCount(ToyStore):
    def counted(self, others: list[float]) -> list[float]:
        return others


@breaks("by_margin_a_match_has_a_score_of_at_most_within")
class MatchesByDistance(ToyStore):
    def compared(self, one: Candidate) -> float:
        return one.distance


@breaks("an_exact_store_orders_tied_templates_by_the_age_of_the_subject")
class TiedTemplatesByName(ToyStore):
    def by_age(self, distances: Mapping[str, float]) -> list[str]:
        return sorted(distances, key=lambda name: (distances[name], name))


@breaks("a_rule_of_fusion_can_be_changed")
class KeepsTheFormerThreshold(ToyStore):
    def without_threshold(self, kept: Kept) -> Kept:
        return kept


@breaks("a_target_takes_the_place_of_a_threshold")
class KeepsTheThresholdBesideTheTarget(ToyStore):
    def for_target(self, kept: Kept) -> Kept:
        return kept


@breaks("verify_goes_by_the_rule_of_fusion")
class VerifiesByNearest(ToyStore):
    def verified_by_rule(self, kept: Kept, subject_id: str, probe: Vectors) -> Candidate:
        return self.verified(subject_id, kept.subjects[subject_id], probe)


@breaks("nobody_is_compared_by_another_rule_than_is_asked_for")
class SearchesByAnyRule(ToyStore):
    def check_rule(self, gallery: Gallery, fusion: str | None) -> None:
        pass


@breaks("nobody_is_compared_by_another_rule_than_is_asked_for")
class VerifiesByAnyRule(ToyStore):
    def check_rule_to_verify(self, gallery: Gallery, fusion: str | None) -> None:
        pass


Encodings = Mapping[int, tuple[Encoding, Vectors]]


@breaks("add_keeps_the_encodings_there_are")
class AddReplaces(ToyStore):
    def joined(self, old: Encodings, new: Encodings, on_existing: OnExisting) -> Encodings:
        return new


@breaks("replace_leaves_only_the_new_encodings")
class ReplaceAdds(ToyStore):
    def joined(self, old: Encodings, new: Encodings, on_existing: OnExisting) -> Encodings:
        return {**old, **new}


@breaks("fail_refuses_an_enrolled_subject")
class FailAdds(ToyStore):
    def fail_existing(self, gallery_id: str, subject_id: str) -> None:
        pass


@breaks("labels_are_kept_unless_others_are_given")
class LabelsAreMerged(ToyStore):
    def labels(self, old: Mapping[str, str], new: Mapping[str, str] | None) -> Mapping[str, str]:
        return {**old, **(new or {})}


@breaks("labels_are_kept_unless_others_are_given")
class NoLabelsKeepLabels(ToyStore):
    def labels(self, old: Mapping[str, str], new: Mapping[str, str] | None) -> Mapping[str, str]:
        return dict(new) if new else old


@breaks("the_array_of_an_enrollment_is_copied")
class KeepsTheCallersArray(ToyStore):
    def taken(self, encodings: Vectors) -> Vectors:
        return encodings


@breaks("a_deleted_subject_is_gone_at_once")
class SearchesDeletedUntilRestart(ToyStore):
    """Its index keeps deleted subjects as long as it is open."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.dead: dict[str, Member] = {}

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        if gallery_id in self.state.galleries and subject_id == "gone":
            self.dead[subject_id] = self.state.member(gallery_id, subject_id)
        return super().delete_subject(gallery_id, subject_id, among=among)

    def searched(self, gallery_id: str) -> Kept:
        kept = super().searched(gallery_id)
        return replace(kept, subjects={**self.dead, **kept.subjects})


@breaks("a_deleted_subject_is_gone_at_once")
class VerifiesTheDeleted(ToyStore):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.before = self.state

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        if subject_id == "gone":
            self.before = self.state
        return super().delete_subject(gallery_id, subject_id, among=among)

    def verify(self, gallery_id: str, subject_id: str, probes: Vectors, **how: Any) -> Found:
        state = self.state
        if subject_id == "gone":
            self.state = self.before
        try:
            return super().verify(gallery_id, subject_id, probes, **how)
        finally:
            self.state = state


@breaks("what_was_deleted_does_not_come_back")
class DeletesInMemoryOnly(ToyStore):
    """A deletion gets to the disk with the next write."""

    deleting = False

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        self.deleting = True
        try:
            return super().delete_subject(gallery_id, subject_id, among=among)
        finally:
            self.deleting = False

    def save(self, state: State) -> None:
        if not self.deleting:
            super().save(state)


@breaks("the_last_encoding_takes_its_subject_with_it")
class LeavesEmptySubjects(ToyStore):
    def without_last(self, subjects: Mapping[str, Member], subject_id: str) -> dict[str, Member]:
        return {**subjects, subject_id: replace(subjects[subject_id], encodings={})}


@breaks("a_deleted_gallery_takes_everything_with_it")
class FindsRequestsOfDeletedGalleries(ToyStore):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.left: dict[str, tuple[bytes, Enrolled, float]] = {}

    def delete_gallery(self, gallery_id: str) -> Future[DeletedGallery]:
        if gallery_id in self.state.galleries:
            self.left.update(self.state.kept(gallery_id).requests)
        return super().delete_gallery(gallery_id)

    def replay(self, gallery_id: str, subject_id: str, request_id: str, request_digest: bytes) -> Enrolled | None:
        found = super().replay(gallery_id, subject_id, request_id, request_digest)
        return self.left[request_id][1] if found is None and request_id in self.left else found


@breaks("encoding_ids_are_never_used_twice")
class UsesNumbersAgain(ToyStore):
    def load(self, state: State) -> State:
        subjects = [one for kept in state.galleries.values() for one in kept.subjects.values()]
        return replace(state, next_number=1 + max((n for one in subjects for n in one.encodings), default=0))


@breaks("encoding_ids_are_never_used_twice")
class FreesNumbersWithTheGallery(ToyStore):
    def delete_gallery(self, gallery_id: str) -> Future[DeletedGallery]:
        future = super().delete_gallery(gallery_id)
        if not self.state.galleries:
            self.state = replace(self.state, next_number=1)
            self.save(self.state)
        return future


@breaks("a_request_is_done_once")
class RepeatsItself(ToyStore):
    """It answers a request made before alike, but as if it were new."""

    def answered(self, kept: Kept, request_id: str | None, digest: bytes) -> Enrolled | None:
        found = super().answered(kept, request_id, digest)
        return None if found is None else replace(found, replayed=False)


@breaks("requests_are_remembered_through_restarts")
class ForgetsRequests(ToyStore):
    def load(self, state: State) -> State:
        return replace(state, galleries={k: replace(kept, requests={}) for k, kept in state.galleries.items()})


@breaks("a_request_id_with_other_content_is_refused")
class IgnoresTheContent(ToyStore):
    def check_request(self, gallery_id: str, request_id: str, same: bool) -> None:
        pass


@breaks("a_retry_does_not_bring_back_who_was_deleted")
class AnswersForTheDeleted(ToyStore):
    def check_not_deleted(self, kept: Kept, subject_id: str, since: float) -> None:
        pass


@breaks("a_failed_request_is_not_remembered")
class RemembersFailures(ToyStore):
    def enroll(self, gallery_id: str, subject_id: str, encodings: Vectors, **how: Any) -> Future[Enrolled]:
        future = super().enroll(gallery_id, subject_id, encodings, **how)
        kept = self.state.galleries.get(gallery_id)
        request = how.get("request_id")
        if kept is not None and request is not None and future.exception() and request not in kept.requests:
            answer = (how["request_digest"], Enrolled(subject_id, (), False, False, kept.gallery.revision), 0.0)
            self.state = self.state.put(replace(kept, requests={**kept.requests, request: answer}))
        return future


@breaks("pages_are_in_order_of_id")
class OrderOfADictionary(ToyStore):
    """As people sort: upper and lower case mixed."""

    def rank(self, one: str) -> str:
        return one.casefold()


@breaks("paging_holds_while_others_write")
class CountsOffsets(ToyStore):
    """The next page begins where the last one ended, counted in entries."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.offsets: dict[str, int] = {}

    def list_subjects(
        self, gallery_id: str, *, page_size: int = 100, after: str | None = None, among: SubjectFilter = EVERYBODY
    ) -> SubjectPage:
        subjects = self.those(self.now().kept(gallery_id), among)
        if after is not None and after not in self.offsets:
            return super().list_subjects(gallery_id, page_size=page_size, after=after, among=among)
        self.check_page_size(page_size)
        begin = 0 if after is None else self.offsets[after]
        ids = self.ordered(subjects)[begin : begin + page_size]
        ids = ids[: self.fitting([len(str(subjects[one].labels)) for one in ids])]
        end = begin + len(ids)
        if end < len(subjects):
            self.offsets[ids[-1]] = end
        return SubjectPage(
            tuple(self._subject(one, subjects[one]) for one in ids), ids[-1] if end < len(subjects) else None
        )


@breaks("paging_holds_while_others_write")
class LooksForTheLastId(ToyStore):
    """It finds no place in the list for an id that was deleted, and begins anew."""

    def page(self, ids: Mapping[str, object], size: int, after: str | None) -> tuple[list[str], str | None]:
        return super().page(ids, size, after if after in ids else None)


@breaks("paging_of_thresholds_holds_while_others_write")
class CountsThresholds(ToyStore):
    """The next page begins where the last one ended, counted from the newest there is now."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.offsets: dict[int, int] = {}

    def earlier(self, thresholds: tuple[ThresholdVersion, ...], after: int | None) -> tuple[ThresholdVersion, ...]:
        offset = 0 if after is None else self.offsets[after]
        for i, one in enumerate(thresholds[offset:], start=offset + 1):
            self.offsets[one.version] = i
        return thresholds[offset:]


@breaks("pages_are_bounded_in_bytes")
class CountsEntriesOnly(ToyStore):
    def fitting(self, sizes: Sequence[int]) -> int:
        return len(sizes)


@breaks("what_is_missing_is_named")
class NamesTheWrongThing(ToyStore):
    def get_subject(self, gallery_id: str, subject_id: str) -> Subject:
        if gallery_id not in self.now().galleries:
            raise KeyError(gallery_id)
        return super().get_subject(gallery_id, subject_id)


@breaks("a_gallery_id_is_taken_once")
class CreatesOverAnother(ToyStore):
    def check_new(self, state: State, gallery_id: str, kind: str) -> None:
        super().check_new(State(), gallery_id, kind)


@breaks("a_kind_of_index_that_is_not_there_is_refused")
class TakesAnyKind(ToyStore):
    def check_new(self, state: State, gallery_id: str, kind: str) -> None:
        super().check_new(state, gallery_id, "flat")


@breaks("encodings_of_another_encoder_are_refused")
class VerifiesForeignEncodings(ToyStore):
    def verify(self, gallery_id: str, subject_id: str, probes: Vectors, **how: Any) -> Found:
        return super().verify(gallery_id, subject_id, probes, **{**how, "encoder_digest": None})


@breaks("encodings_without_a_distance_are_refused")
class TakesZero(ToyStore):
    def checked(self, vectors: Vectors, dimension: int) -> Vectors:
        return vectors if not vectors.any() else super().checked(vectors, dimension)


@breaks("a_write_that_fails_changes_nothing")
class CountsFailures(ToyStore):
    def enroll(self, gallery_id: str, subject_id: str, encodings: Vectors, **how: Any) -> Future[Enrolled]:
        future = super().enroll(gallery_id, subject_id, encodings, **how)
        if future.exception() is not None and len(encodings) > 1:  # the first of them had gone in
            super().enroll(gallery_id, subject_id, encodings[:1], **how)
        return future


@breaks("a_write_that_fails_changes_nothing")
class WritesLabelsBeforeItLooks(ToyStore):
    def fail_existing(self, gallery_id: str, subject_id: str) -> None:
        kept = self.state.kept(gallery_id)
        member = replace(kept.subjects[subject_id], labels={"name": "Max"})
        self.state = self.state.put(replace(kept, subjects={**kept.subjects, subject_id: member}))
        self.save(self.state)
        super().fail_existing(gallery_id, subject_id)


@breaks("limits_are_named")
class NamesNoLimit(ToyStore):
    def answer(self, kept: Kept, search: Search) -> Found:
        if search.limit > MAX_CANDIDATES:
            search = replace(search, limit=MAX_CANDIDATES)
        return super().answer(kept, search)


@breaks("nonsense_is_a_value_error")
class EmptyPages(ToyStore):
    def check_page_size(self, size: int) -> None:
        pass


@breaks("a_closed_store_says_so")
class NeverCloses(ToyStore):
    said = False

    def close(self, deadline_seconds: float | None = None) -> None:
        self.said = True

    def trouble(self) -> str | None:
        return "closed" if self.said else None


@breaks("trouble_is_told")
class IsNeverInTrouble(ToyStore):
    def trouble(self) -> str | None:
        return None


@breaks("trouble_is_told")
class IsInTroubleAfterARefusal(ToyStore):
    refused = False

    def enroll(self, gallery_id: str, subject_id: str, encodings: Vectors, **how: Any) -> Future[Enrolled]:
        future = super().enroll(gallery_id, subject_id, encodings, **how)
        self.refused = self.refused or future.exception() is not None
        return future

    def trouble(self) -> str | None:
        return "refused" if self.refused else super().trouble()


@breaks("galleries_do_not_touch_each_other")
class OneListOfRequests(ToyStore):
    def answered(self, kept: Kept, request_id: str | None, digest: bytes) -> Enrolled | None:
        everyone = {name: one for other in self.state.galleries.values() for name, one in other.requests.items()}
        return super().answered(replace(kept, requests=everyone), request_id, digest)


@breaks("galleries_do_not_touch_each_other")
class DeletesEverywhere(ToyStore):
    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        future = super().delete_subject(gallery_id, subject_id, among=among)
        for name, kept in self.state.galleries.items():
            if name != gallery_id and subject_id in kept.subjects:
                super().delete_subject(name, subject_id, among=among)
        return future


@breaks("writes_of_one_thread_take_effect_in_order")
class EnrollsLast(ToyStore):
    """An enrollment waits while there are deletions to be done."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.waiting: Callable[[], Future[Enrolled]] | None = None

    def enroll(self, gallery_id: str, subject_id: str, encodings: Vectors, **how: Any) -> Future[Enrolled]:
        if subject_id != "quick":
            return super().enroll(gallery_id, subject_id, encodings, **how)
        self.waiting = functools.partial(super().enroll, gallery_id, subject_id, encodings, **how)
        return Future()

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        future = super().delete_subject(gallery_id, subject_id, among=among)
        if self.waiting is not None and subject_id == "quick":
            self.waiting()
        return future


@breaks("what_is_done_is_seen_by_every_thread")
class EachThreadSeesItsFirstState(ToyStore):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.seen = threading.local()

    def searched(self, gallery_id: str) -> Kept:
        if threading.current_thread() is threading.main_thread():
            return super().searched(gallery_id)
        if not hasattr(self.seen, "kept"):
            self.seen.kept = super().searched(gallery_id)
        kept: Kept = self.seen.kept
        return kept


@breaks("the_answers_are_in_the_order_of_the_probes")
class AnswersInReverse(ToyStore):
    def answer(self, kept: Kept, search: Search) -> Found:
        found = super().answer(kept, search)
        return replace(found, candidates=found.candidates[::-1])


@breaks("each_question_is_answered_as_if_asked_alone")
class AnswersWithTheMost(ToyStore):
    def search_many(self, gallery_id: str, searches: Sequence[Search]) -> list[Found | GalleryError]:
        most = max((search.candidates for search in searches if search.candidates <= MAX_CANDIDATES), default=0)
        return super().search_many(
            gallery_id, [replace(search, candidates=max(search.candidates, most)) for search in searches]
        )


@breaks("a_bad_question_fails_alone")
class FailsTogether(ToyStore):
    def search_many(self, gallery_id: str, searches: Sequence[Search]) -> list[Found | GalleryError]:
        found = super().search_many(gallery_id, searches)
        errors = [one for one in found if isinstance(one, GalleryError)]
        return [errors[0]] * len(found) if errors else found


@breaks("all_questions_of_a_call_are_answered_from_one_revision")
class AnswersOneAfterTheOther(ToyStore):
    """Between two questions other writes get in: here one always does, if there was one before."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.former: dict[str, list[Kept]] = {}

    def search_many(self, gallery_id: str, searches: Sequence[Search]) -> list[Found | GalleryError]:
        first = super().search_many(gallery_id, searches[:1])
        seen = self.former.setdefault(gallery_id, [])
        seen.append(self.searched(gallery_id))
        if len(searches) != 3 or len(seen) < 2:
            return first + super().search_many(gallery_id, searches[1:])
        return first + [self.answer(seen[-2], search) for search in searches[1:]]


@breaks("every_write_counts_one_revision")
class ThresholdsDoNotCount(ToyStore):
    step_of_threshold = 0


@breaks("sizes_are_counted")
class CountsSubjectsTwice(ToyStore):
    def changed(self, kept: Kept, subjects: Mapping[str, Member]) -> Kept:
        after = super().changed(kept, subjects)
        return replace(after, gallery=replace(after.gallery, encodings=after.gallery.encodings + 1))


@breaks("every_threshold_is_kept")
class ForgetsClearedThresholds(ToyStore):
    def history(self, new: ThresholdVersion, earlier: tuple[ThresholdVersion, ...]) -> tuple[ThresholdVersion, ...]:
        return (new, *(one for one in earlier if one.threshold is not None))


@breaks("the_threshold_in_force_is_known")
class KnowsTheFirstThreshold(ToyStore):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.remembered: dict[str, Generation] = {}

    def known(self, gallery_id: str) -> Gallery:
        gallery = super().known(gallery_id)
        first = self.remembered.setdefault(gallery_id, gallery.active)
        return replace(
            gallery,
            active=replace(gallery.active, threshold=first.threshold, threshold_revision=first.threshold_revision),
        )


@breaks("the_threshold_in_force_is_known")
class TakesThresholdZeroForNone(ToyStore):
    def set_threshold(
        self, gallery_id: str, threshold: float | None, calibration: str | None = None, of: Gallery | None = None
    ) -> Future[Gallery]:
        return super().set_threshold(gallery_id, threshold or None, calibration, of)


@breaks("the_quality_policy_is_known")
class KeepsTheFirstQuality(ToyStore):
    def with_quality(self, gallery: Gallery, quality: str | None) -> Gallery:
        return super().with_quality(gallery, gallery.active.quality or quality)


@breaks("the_least_gap_is_known")
class KeepsTheLargestGap(ToyStore):
    def with_least_gap(self, gallery: Gallery, least_gap: float) -> Gallery:
        return super().with_least_gap(gallery, max(least_gap, gallery.active.least_gap))


@breaks("what_answers_may_lose_is_known")
class LosesForGood(ToyStore):
    def with_kind(self, gallery: Gallery, kind: str) -> Gallery:
        return super().with_kind(gallery, gallery.active.kind if kind == "flat" else kind)


@breaks("what_answers_may_lose_is_known")
class KeepsTheRevision(ToyStore):
    def with_kind(self, gallery: Gallery, kind: str) -> Gallery:
        return replace(super().with_kind(gallery, kind), revision=gallery.revision)


@breaks("what_answers_may_lose_is_known")
class TellsNothingOfHowAnswersCome(ToyStore):
    def approximation_state(self, gallery_id: str) -> ApproximationState | None:
        super().approximation_state(gallery_id)
        return None


@breaks("what_answers_may_lose_survives_a_restart")
class ForgetsWhatMayBeLost(ToyStore):
    def load(self, state: State) -> State:
        galleries = {
            name: replace(kept, gallery=replace(kept.gallery, active=replace(kept.gallery.active, kind="flat")))
            for name, kept in state.galleries.items()
        }
        return replace(state, galleries=galleries)


@breaks("what_subjects_look_like_is_listed")
class ListsTheFirstEncodingAlone(ToyStore):
    def likeness(self, active: Generation, name: str, member: Member) -> Likeness:
        found = super().likeness(active, name, member)
        return replace(found, encoding_ids=found.encoding_ids[:1], vectors=found.vectors[:1])


@breaks("what_subjects_look_like_is_listed")
class ListsEncodingsForTemplates(ToyStore):
    def likeness(self, active: Generation, name: str, member: Member) -> Likeness:
        return super().likeness(replace(active, fusion="nearest"), name, member)


@breaks("what_is_done_survives_a_restart")
class ForgetsDescriptions(ToyStore):
    def load(self, state: State) -> State:
        galleries = {
            name: replace(kept, gallery=replace(kept.gallery, description="")) for name, kept in state.galleries.items()
        }
        return replace(state, galleries=galleries)


@breaks("singly_a_subject_is_as_near_as_its_nearest_encoding")
class SinglyByTheRule(ToyStore):
    def ranked_singly(self, kept: Kept, probe: Vectors) -> list[Candidate]:
        return self.ranked(kept, probe)


@breaks("enrolling_names_the_nearest_other_subject")
class NamesOthersInDoubtOnly(ToyStore):
    def doubted(
        self, kept: Kept, doubting: Doubting, subject_id: str, vectors: Vectors, own: list[Vectors]
    ) -> tuple[Neighbour | None, tuple[Doubt, ...]]:
        nearest, doubts = super().doubted(kept, doubting, subject_id, vectors, own)
        return nearest if doubts else None, doubts


@breaks("what_is_enrolled_since_the_search_counts")
class TrustsTheSearch(ToyStore):
    def doubted(
        self, kept: Kept, doubting: Doubting, subject_id: str, vectors: Vectors, own: list[Vectors]
    ) -> tuple[Neighbour | None, tuple[Doubt, ...]]:
        found = {one.subject_id: kept.subjects[one.subject_id] for one in doubting.neighbours if one is not None}
        return super().doubted(replace(kept, subjects=found), doubting, subject_id, vectors, own)


@breaks("an_example_like_another_subject_is_doubtful")
class LikenessBelowTheLimit(ToyStore):
    def is_like(self, distance: float, limit: float) -> bool:
        return distance < limit


@breaks("an_example_unlike_its_own_subject_is_doubtful")
class OneRequestIsOnePerson(ToyStore):
    def beside(self, vectors: Vectors, example: int) -> list[Vectors]:
        return []


@breaks("a_replayed_enrollment_tells_the_same_doubts")
class ReplaysWithoutDoubts(ToyStore):
    def answered(self, kept: Kept, request_id: str | None, digest: bytes) -> Enrolled | None:
        answered = super().answered(kept, request_id, digest)
        return answered and replace(answered, doubts=())


@breaks("the_doubt_policy_is_known")
class KeepsTheFirstDoubtPolicy(ToyStore):
    def with_doubt(self, gallery: Gallery, doubt: str | None) -> Gallery:
        return super().with_doubt(gallery, gallery.active.doubt or doubt)


@breaks("a_probe_nearer_to_a_negative_is_not_given_the_subject")
class NearerThanTheTemplate(ToyStore):
    def reach(self, member: Member, one: Candidate, probe: Vectors) -> float:
        return one.distance


@breaks("as_near_to_a_negative_is_not_nearer")
class AsNearIsNearer(ToyStore):
    def nearer(self, negative: float, own: float) -> bool:
        return negative <= own


@breaks("verify_tells_of_a_nearer_negative")
class VerifiesWithoutNegatives(ToyStore):
    def verified_mark(self, member: Member, one: Candidate, probe: Vectors) -> Candidate:
        return one


@breaks("as_many_subjects_are_found_as_without_negatives")
class NegativesTakePlaces(ToyStore):
    def candidates(self, near: Sequence[Candidate], count: int) -> tuple[Candidate, ...]:
        return self.listed(near, count)


@breaks("a_match_has_no_nearer_negative")
class MatchesInSpiteOfNegatives(ToyStore):
    def given(self, near: Sequence[Candidate]) -> list[Candidate]:
        return list(near)


@breaks("negatives_are_listed_and_counted")
class CountsNoNegatives(ToyStore):
    def changed(self, kept: Kept, subjects: Mapping[str, Member]) -> Kept:
        after = super().changed(kept, subjects)
        return replace(after, gallery=replace(after.gallery, negatives=0))


@breaks("negatives_stay_until_their_subject_goes")
class ForgetsNegatives(ToyStore):
    def kept_negatives(self, old: Mapping[int, tuple[Negative, Vectors]]) -> Mapping[int, tuple[Negative, Vectors]]:
        return {}


@breaks("the_same_negative_is_added_once")
class AddsNegativesAgain(ToyStore):
    def is_same(self, one: Vectors, other: Vectors) -> bool:
        return False


@breaks("a_negative_that_cannot_be_is_refused")
class TakesAnyNegative(ToyStore):
    def check_negative(self, gallery_id: str, subject_id: str, member: Member, vector: Vectors) -> None:
        pass


@breaks("a_head_tells_how_likely_candidates_are")
class ProbabilityOfTheFirstEncoding(ToyStore):
    def with_probability(self, kept: Kept, one: Candidate, head: PairHead, probe: Vectors) -> Candidate:
        told = super().with_probability(
            kept, replace(one, encoding_id=self.compared_by(kept, one.subject_id)[0][0]), head, probe
        )
        return replace(one, probability=told.probability)


@breaks("where_probability_decides_the_likeliest_are_found")
class RankedByDistanceAllTheSame(ToyStore):
    def likeliest_first(self, found: list[tuple[float, int, Candidate]]) -> list[Candidate]:
        return [one for _, _, one in found]


@breaks("where_probability_decides_the_likeliest_are_found")
class EquallyLikelyTheNewestFirst(ToyStore):
    def likeliest_first(self, found: list[tuple[float, int, Candidate]]) -> list[Candidate]:
        return [one for _, _, one in sorted(found, key=lambda each: (each[0], -each[1]))]


@breaks("verify_tells_how_likely_it_is")
class VerifiesByTheNearest(ToyStore):
    def verified_by_head(
        self, kept: Kept, subject_id: str, probe: Vectors, head: PairHead | None, by_probability: bool
    ) -> Candidate:
        return super().verified_by_head(kept, subject_id, probe, head, False)


@breaks("what_decides_can_be_changed")
class KeepsTheThresholdForWhatDecided(ToyStore):
    def without_decided_threshold(self, kept: Kept) -> Kept:
        return kept


@breaks("what_decides_can_be_changed")
class TakesAnyRules(ToyStore):
    def check_rules(self, gallery_id: str, fusion: str, decided_by: str) -> None:
        pass


@breaks("a_renamed_subject_is_the_same_under_another_id")
class RenamedLosesLabels(ToyStore):
    def renamed(self, member: Member) -> Member:
        return replace(member, labels={})


@breaks("an_id_that_another_has_is_not_given")
class TakesTheIdOfAnother(ToyStore):
    def check_free(self, kept: Kept, new_id: str) -> None:
        pass


@breaks("labels_are_set_and_taken_away")
class KeepsLabels(ToyStore):
    def relabelled(
        self, old: Mapping[str, str], new: Mapping[str, str], removed: Collection[str], clear: bool
    ) -> Mapping[str, str]:
        return {**old, **new}


@breaks("a_merged_subject_has_what_both_had")
class MergedLosesLabels(ToyStore):
    def merged(self, source: Mapping[str, str], target: Mapping[str, str]) -> Mapping[str, str]:
        return {**target, **source}


@breaks("whether_crops_are_kept_is_known")
class KeepsNoCropsEver(ToyStore):
    def keeping_crops(self, gallery: Gallery, keep: bool) -> Gallery:
        return replace(ToyStore.keeping_crops(self, gallery, keep), retention=None)


@breaks("a_merge_keeps_within_the_limits")
class MergesBeyondTheLimit(ToyStore):
    def check_room(self, encodings: int) -> None:
        pass


@breaks("a_subject_is_not_merged_into_itself")
class MergesIntoItself(ToyStore):
    def check_two(self, gallery_id: str, subject_id: str, other_id: str) -> None:
        pass


@breaks("a_retry_brings_back_nobody_who_was_merged")
class AnswersWithTheFormer(ToyStore):
    def answers_after(self, kept: Kept, subject_id: str, owner: str, ids: Mapping[str, str]) -> Kept:
        return self.called(kept, subject_id, owner, {})


@breaks("an_encoding_moves_with_its_note")
class MovesTheOthers(ToyStore):
    def chosen(self, member: Member, encoding_id: str | None, key: str | None) -> list[int]:
        found = ToyStore.chosen(self, member, encoding_id, key)
        return [n for n in member.encodings if n not in found] if key else found


@breaks("what_a_subject_is_not_does_not_come_to_it")
class MergesWithANegative(ToyStore):
    def check_apart(
        self, gallery_id: str, subject_id: str, source: Member, into_id: str, target: Member, numbers: list[int]
    ) -> None:
        pass


@breaks("no_two_encodings_of_a_subject_are_enrolled_with_one_key")
class OneKeyForTwo(ToyStore):
    def check_keys(self, gallery_id: str, subject_id: str, old: Member, notes: Sequence[Note]) -> None:
        pass


@breaks("an_answer_among_some_is_as_if_nobody_else_was_there")
class ComparesWithEverybody(ToyStore):
    def only(self, kept: Kept, among: SubjectFilter) -> Kept:
        return kept


@breaks("lists_and_counts_are_of_those_who_pass")
class CountsTheUnlabelled(ToyStore):
    def count_label(self, gallery_id: str, label: str, among: SubjectFilter = EVERYBODY) -> LabelCounts:
        counts = ToyStore.count_label(self, gallery_id, label, among)
        return replace(counts, without=0)


@breaks("who_does_not_pass_is_not_deleted")
class DeletesWhoeverIsNamed(ToyStore):
    def check_passes(self, gallery_id: str, subject_id: str, member: Member, among: SubjectFilter) -> None:
        pass


def broken_promises(store: Callable[[Disk], GalleryStore]) -> set[str]:
    """Which checks a store fails, fresh or reopened."""
    failed = set()
    for name, check in PROMISES.items():
        for restarting in (False, True):
            disk = Disk()
            try:
                check(Trial(lambda disk=disk: store(disk), restarting))  # type: ignore[misc]
            except (AssertionError, GalleryError):  # an error that the check doesn't expect
                failed.add(name)
    return failed


def test_the_correct_toy_keeps_every_promise() -> None:
    assert broken_promises(ToyStore) == set()


def test_there_is_a_broken_store_for_every_promise() -> None:
    assert {promise for promise, _ in BROKEN} == set(PROMISES)


@pytest.mark.parametrize(("promise", "store"), BROKEN, ids=lambda one: getattr(one, "__name__", one))
def test_a_broken_promise_is_noticed_and_no_other(promise: str, store: type[ToyStore]) -> None:
    assert broken_promises(store) == {promise}
