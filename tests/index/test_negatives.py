"""Negatives, and searches by single encodings, against brute force: by every rule, through any changes, on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from oneglance_index import Candidate, Found, IndexSettings, LocalGalleries, NearerNegative, Search
from tests.index import brute_force
from tests.index.brute_force import distance

Vector = NDArray[np.float32]
RULES = ("nearest", "mean", "margin")
# On a coarse grid, so that ties are common: between subjects, and between a negative and an encoding.
POINTS = st.tuples(st.integers(-2, 2), st.integers(-2, 2)).filter(any)
NAMES = [f"s{i}" for i in range(6)]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("enroll"), st.sampled_from(NAMES), st.lists(POINTS, min_size=1, max_size=3)),
        st.tuples(st.just("replace"), st.sampled_from(NAMES), st.lists(POINTS, min_size=1, max_size=2)),
        st.tuples(st.just("negative"), st.sampled_from(NAMES), POINTS),
        st.tuples(st.just("delete encoding"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("delete negative"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("compact"), st.sampled_from(NAMES), st.none()),
    ),
    min_size=1,
    max_size=25,
)


def vector(point: tuple[int, int]) -> Vector:
    return np.array(point, np.float32)


class Model:
    """What the gallery holds, in dictionaries: encodings and negatives by subject, each with its number."""

    def __init__(self) -> None:
        self.encodings: dict[str, dict[str, Vector]] = {}
        self.negatives: dict[str, dict[str, Vector]] = {}

    def nearer_negative(self, subject: str, probe: Vector) -> NearerNegative | None:
        ranked = sorted((distance(v, probe), int(n)) for n, v in self.negatives.get(subject, {}).items())
        own = min(distance(v, probe) for v in self.encodings[subject].values())
        return NearerNegative(str(ranked[0][1]), ranked[0][0]) if ranked and ranked[0][0] < own else None

    def ranked(self, probe: Vector, fusion: str) -> list[tuple[str, float, float, NearerNegative | None]]:
        """(subject, distance, score, nearer negative), nearest first."""
        rows = [(s, int(n), v) for s, own in self.encodings.items() for n, v in own.items()]
        if fusion == "nearest":
            found = [(s, d, d) for s, _, d in brute_force.nearest(rows, probe, len(self.encodings))]
        else:
            found = brute_force.by_template(rows, probe, fusion)
        return [(s, d, score, self.nearer_negative(s, probe)) for s, d, score in found]

    def singly(self, probe: Vector) -> list[tuple[float, str]]:
        return sorted((min(distance(v, probe) for v in own.values()), s) for s, own in self.encodings.items())


def change(galleries: LocalGalleries, model: Model, what: str, subject: str, given: object) -> None:
    own, negatives = model.encodings.get(subject, {}), model.negatives.get(subject, {})
    if what in ("enroll", "replace"):
        points = [vector(point) for point in given]  # type: ignore[attr-defined]
        enrolled = galleries.enroll(
            "g", subject, np.stack(points), on_existing="add" if what == "enroll" else "replace"
        )
        kept = own if what == "enroll" else {}
        model.encodings[subject] = {**kept, **dict(zip(enrolled.result().encoding_ids, points, strict=True))}
    elif what == "negative" and own:
        point = vector(given)  # type: ignore[arg-type]
        if not any((point == one).all() for one in own.values()):
            added = galleries.add_negative("g", subject, point).result()
            assert added.created == (not any((point == one).all() for one in negatives.values()))
            model.negatives.setdefault(subject, {})[added.id] = point
    elif what == "delete encoding" and own:
        number = list(own)[given % len(own)]  # type: ignore[operator]
        galleries.delete_encoding("g", subject, number).result()
        del own[number]
    elif what == "delete negative" and negatives:
        number = list(negatives)[given % len(negatives)]  # type: ignore[operator]
        galleries.delete_negative("g", subject, number).result()
        del negatives[number]
    elif what == "delete" and own:
        galleries.delete_subject("g", subject).result()
        own.clear()
    elif what == "compact":
        galleries.compact("g")
    if not model.encodings.get(subject):
        model.encodings.pop(subject, None)
        model.negatives.pop(subject, None)


def check(galleries: LocalGalleries, model: Model, fusion: str) -> None:
    probes = np.array([(0.5, 0), (1, 1), (-1, 2), (0, -1.5)], np.float32)
    for asked in (1, 3):
        search = Search(probes, "e", asked, 4.0, 2)
        singly = Search(probes, "e", asked, singly=True)
        found, alone = galleries.search_many("g", [search, singly])
        assert isinstance(found, Found)
        assert isinstance(alone, Found)
        for i, probe in enumerate(probes):
            ranked = model.ranked(probe, fusion)
            ends = [end for end, one in enumerate(ranked) if one[3] is None]
            expected = ranked[: ends[asked - 1] + 1] if len(ends) >= asked else ranked
            assert [(c.distance, c.negative) for c in found.candidates[i]] == [(d, n) for _, d, _, n in expected]
            by_subject = {subject: n for subject, _, _, n in ranked}
            assert all(by_subject[c.subject_id] == c.negative for c in found.candidates[i])
            scores = [score for _, _, score, _ in expected]
            assert [c.score for c in found.candidates[i]] == pytest.approx(scores, rel=1e-9, abs=1e-9)
            given_under = [s for s, _, score, n in ranked if score <= 4.0 and n is None]
            assert len(found.matches[i]) == min(2, len(given_under))
            assert {c.subject_id for c in found.matches[i]} <= set(given_under)
            assert found.truncated[i] == (len(given_under) > 2)
            single = [d for d, _ in model.singly(probe)[:asked]]
            assert [c.distance for c in alone.candidates[i]] == single
            assert all(one in model.singly(probe) for one in [(c.distance, c.subject_id) for c in alone.candidates[i]])
    for subject in model.encodings:
        candidates = galleries.verify("g", subject, probes).candidates
        assert [near[0].negative for near in candidates] == [model.nearer_negative(subject, one) for one in probes]
        numbers = [negative.id for negative in galleries.get_subject("g", subject).negatives]
        assert numbers == list(model.negatives.get(subject, {}))
    assert galleries.get_gallery("g").negatives == sum(map(len, model.negatives.values()))


@pytest.mark.parametrize("fusion", RULES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_answers_are_those_of_brute_force_through_any_changes(
    tmp_path_factory: pytest.TempPathFactory, fusion: str, changes: list[tuple[str, str, object]]
) -> None:
    data_dir = tmp_path_factory.mktemp("galleries")
    model = Model()
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=2, fusion=fusion).result()
        for one in changes:
            change(galleries, model, *one)
        check(galleries, model, fusion)
    with LocalGalleries.open(data_dir) as galleries:
        check(galleries, model, fusion)
        for other in RULES:
            galleries.set_fusion("g", other).result()
            check(galleries, model, other)


def test_many_subjects_with_nearer_negatives_leave_the_others_to_be_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((400, 8), dtype=np.float32)
    with LocalGalleries.open(tmp_path, settings=IndexSettings(max_candidates=5)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        for i, one in enumerate(vectors):
            galleries.enroll("g", f"s{i}", one[None])
        probe = rng.standard_normal(8, dtype=np.float32)
        order = sorted(range(400), key=lambda i: distance(vectors[i], probe))
        for i in order[:300]:
            galleries.add_negative("g", f"s{i}", probe).result()
        (found,) = galleries.search_many("g", [Search(probe[None], "e", 3, 1e9, 5)])
        assert isinstance(found, Found)
        assert [one.subject_id for one in found.candidates[0]] == [f"s{i}" for i in order[:303]]
        assert [one.subject_id for one in found.matches[0]] == [f"s{i}" for i in order[300:305]]
        assert found.truncated == (True,)


def test_singly_the_nearest_may_be_behind_many_templates(tmp_path: Path) -> None:
    """Whose templates are near and whose encodings are far."""
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=2, fusion="mean").result()
        for i in range(60):
            galleries.enroll("g", f"several {i}", np.array([(10, 50 + i), (10, -50 - i)], np.float32))
        galleries.enroll("g", "single", np.array([(10, 20)], np.float32)).result()
        (found,) = galleries.search_many("g", [Search(np.array([(10, 0)], np.float32), "e", 2, singly=True)])
        assert isinstance(found, Found)
        assert found.candidates == (
            (
                Candidate("single", "", 400.0, 400.0),
                Candidate("several 0", "1", 2500.0, 2500.0),
            ),
        )


def test_a_search_within_a_threshold_is_none_of_single_encodings() -> None:
    with pytest.raises(ValueError, match="single encodings"):
        Search(np.ones((1, 2), np.float32), "e", 1, 0.5, 1, singly=True)
