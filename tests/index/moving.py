"""Galleries that are taken out of one store and brought into another one, or into the same as another gallery."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from oneglance_index import Gallery, KnownSubjects, LocalGalleries, MovedSubject, ThresholdVersion
from tests.index import asking

RANDOM = np.random.default_rng(4)
SUBJECTS = 40


def vectors(count: int = 1) -> np.ndarray:
    return RANDOM.normal(size=(count, 8)).astype(np.float32)


Taken = tuple[Gallery, list[MovedSubject], tuple[ThresholdVersion, ...]]


def take(galleries: LocalGalleries, meanwhile: Iterator[object] | None = None, name: str = "g") -> Taken:
    """As a client does, with a page of three subjects a call; `meanwhile` does something after each."""
    known, have = KnownSubjects.none(), dict[int, MovedSubject]()
    for limit in itertools.count(1):
        step = galleries.export_step(name, known, 32 * 8 * limit)
        for number in step.gone.tolist():
            del have[number]
        known = known.without(step.gone)
        if step.subjects is not None and step.thresholds is not None:
            have.update((one.number, one) for one in step.subjects)
            return step.gallery, [have[number] for number in sorted(have)], step.thresholds
        left = step.changed.tolist()
        while left:
            page, count = galleries.export_subjects(name, step.gallery.uid, left[:3], 1 << 20)
            have.update((one.number, one) for one in page)
            versions = np.array([one.version for one in page], np.uint64)
            known = known.with_newer(np.array([one.number for one in page], np.int64), versions)
            left = left[count:]
            if meanwhile is not None:
                next(meanwhile, None)
    raise AssertionError


def ranked(subjects: list[MovedSubject]) -> list[MovedSubject]:
    """With numbers of encodings that count from 0."""
    order = {number: rank for rank, number in enumerate(sorted(e.number for one in subjects for e in one.encodings))}
    return [
        replace(one, encodings=tuple(replace(each, number=order[each.number]) for each in one.encodings))
        for one in subjects
    ]


def bring(galleries: LocalGalleries, taken: Taken, name: str = "g") -> None:
    for _ in bringing(galleries, taken, name):
        pass


def bringing(galleries: LocalGalleries, taken: Taken, name: str = "g") -> Iterator[tuple[str, str]]:
    """Imports it, or goes on. Tells how many of its subjects are there, or "all" once it is finished: before each step
    but the first, with "try", and after it, with "ok"."""
    gallery, subjects, thresholds = taken
    done = galleries.begin_import(name, gallery, "d").result().subjects
    yield "ok", str(done)
    listed = ranked(subjects)
    while done < len(listed):
        some = listed[done : done + 7]
        yield "try", str(done + len(some))
        done = galleries.import_subjects(name, "d", done, some).result()
        yield "ok", str(done)
    galleries.import_thresholds(name, "d", thresholds).result()
    yield "try", "all"
    galleries.finish_import(name, "d").result()
    yield "ok", "all"


def check_alike(a: LocalGalleries, b: LocalGalleries, name: str = "g", copy: str = "g") -> None:
    """That `copy` of the second answers and is as `name` of the first, but for what is its own."""
    probes = np.concatenate([vectors(16), a.list_likenesses(name, page_size=1000).subjects[7].vectors])
    both = (a, name), (b, copy)
    found, moved = (asking.nearest(one, each, probes, SUBJECTS, labels=True) for one, each in both)
    told = [
        [[(c.subject_id, c.distance, c.score, c.labels) for c in row] for row in f.candidates] for f in (found, moved)
    ]
    assert told[0] == told[1]
    assert found.revision == moved.revision
    assert b.list_thresholds(copy).versions == a.list_thresholds(name).versions
    mine, theirs = a.get_gallery(name), b.get_gallery(copy)
    assert replace(theirs, uid="", id="") == replace(mine, uid="", id="")
    assert theirs.uid != mine.uid
    for one in a.list_subjects(name, page_size=1000).subjects:
        other = b.get_subject(copy, one.id)
        assert [(e.created, e.note) for e in other.encodings] == [(e.created, e.note) for e in one.encodings]
        assert [e.created for e in other.negatives] == [e.created for e in one.negatives]
        assert replace(other, encodings=(), negatives=()) == replace(one, encodings=(), negatives=())
