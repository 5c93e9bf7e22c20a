"""No search sees half of a move, a merge or a new id, however many are under way."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import LocalGalleries, SubjectFilter
from oneglance_index.records import Found
from tests.index import asking
from tests.waiting import PATIENCE_SECONDS

VECTORS = np.eye(4, dtype=np.float32)
ROUNDS = 60


def while_searching(
    galleries: LocalGalleries, probe: int, work: Callable[[], None], check: Callable[[Found], None]
) -> None:
    """Searches without a pause while `work` is done, and checks every answer."""
    done = threading.Event()
    wrong: list[BaseException] = []

    def search() -> None:
        last = 0
        try:
            while not done.is_set():
                found = asking.nearest(galleries, "g", VECTORS[probe : probe + 1], 9)
                assert found.revision >= last
                last = found.revision
                check(found)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    if wrong:
        raise wrong[0]


@pytest.fixture(params=["nearest", "mean"])
def galleries(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path) as opened:
        opened.create_gallery("g", encoder_digest="e", dimension=4, fusion=request.param).result()
        yield opened


def test_what_moves_is_always_somewhere(galleries: LocalGalleries) -> None:
    for name, vector in (("a", 0), ("b", 1)):
        galleries.enroll("g", name, VECTORS[vector : vector + 1]).result()
    moving = galleries.enroll("g", "a", VECTORS[2:3]).result().encoding_ids[0]
    nearest = galleries.known("g").active.fusion == "nearest"

    def work() -> None:
        encoding = moving
        for i in range(ROUNDS):
            source, target = ("a", "b") if i % 2 == 0 else ("b", "a")
            moved = galleries.move_encodings("g", source, target, encoding_id=encoding).result()
            encoding = moved.encoding_ids[encoding]

    def check(found: Found) -> None:
        assert (found.subjects, found.encodings, len(found.candidates[0])) == (2, 3, 2)
        # By its own rule: the moving encoding itself, or the template that it is in, never both nor neither.
        distances = sorted(one.distance for one in found.candidates[0])
        assert distances[0] == (0.0 if nearest else pytest.approx(2 - 2 / np.sqrt(2)))
        assert distances[1] == pytest.approx(2.0)

    while_searching(galleries, 2, work, check)


def test_one_who_is_renamed_keeps_negatives_in_every_answer(galleries: LocalGalleries) -> None:
    galleries.enroll("g", "n0", VECTORS[:1]).result()
    galleries.add_negative("g", "n0", VECTORS[3]).result()

    def work() -> None:
        for i in range(ROUNDS):
            galleries.rename_subject("g", f"n{i}", f"n{i + 1}").result()

    def check(found: Found) -> None:
        (one,) = found.candidates[0]
        assert one.subject_id.startswith("n")
        assert one.negative is not None

    while_searching(galleries, 3, work, check)


def test_one_who_is_merged_is_always_told_with_negatives(galleries: LocalGalleries) -> None:
    galleries.enroll("g", "last", VECTORS[:1]).result()
    galleries.add_negative("g", "last", VECTORS[3]).result()

    def work() -> None:
        for i in range(ROUNDS):
            galleries.enroll("g", f"n{i}", VECTORS[1:2]).result()
            former = "last" if i == 0 else f"n{i - 1}"
            galleries.merge_subjects("g", former, f"n{i}").result()

    def check(found: Found) -> None:
        assert any(one.negative is not None for one in found.candidates[0])

    while_searching(galleries, 3, work, check)


def test_a_filter_knows_what_changes_while_it_is_asked(galleries: LocalGalleries) -> None:
    galleries.enroll("g", "s", VECTORS[:1], labels={"in": "no"}).result()
    for i in range(ROUNDS):
        wanted = SubjectFilter((("in", "yes"),), "s")
        passes = i % 2 == 0
        galleries.update_labels("g", "s", {"in": "yes" if passes else "no"}).result()
        found = asking.nearest(galleries, "g", VECTORS[:1], 9, among=wanted)
        assert (found.among, len(found.candidates[0])) == (int(passes), int(passes))
