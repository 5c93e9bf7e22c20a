"""A store on trial, and how a promise becomes a check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from oneglance_index import (
    Candidate,
    Enrolled,
    Found,
    GalleryError,
    GalleryStore,
    Search,
    ThresholdVersion,
)

Vectors = NDArray[np.float32]

DIMENSION = 4
# Stores on trial are opened with these limits.
MAX_ENCODINGS, MAX_NEGATIVES, MAX_CANDIDATES, MAX_PAGE_BYTES = 5, 4, 400, 32_000
PROBE = (1.0, 0.0, 0.0, 0.0)


class Trial:
    """A store that begins empty. `open` opens its data, again and again, one at a time.

    With `restarting` the store is closed and opened whenever a check settles, that is between writing and reading.
    """

    def __init__(self, open: Callable[[], GalleryStore], restarting: bool = False) -> None:
        self._open = open
        self._restarting = restarting
        self.store = open()

    def settle(self) -> None:
        if self._restarting:
            self.restart()

    def restart(self) -> None:
        self.store.close()
        self.store = self._open()

    def create(self, gallery_id: str = "g", fusion: str = "nearest") -> None:
        self.store.create_gallery(
            gallery_id, encoder_digest="e", dimension=DIMENSION, description="d", fusion=fusion
        ).result()

    def enroll(self, subject: str, *vectors: Sequence[float] | Vectors, **how: Any) -> Enrolled:
        return self.store.enroll("g", subject, np.array(vectors, np.float32), **how).result()

    def ask(
        self,
        probe: Sequence[float] | Vectors,
        k: int,
        within: float | None = None,
        limit: int = 0,
        digest: str = "e",
        **how: Any,
    ) -> Found:
        return self.ask_in("g", probe, k, within, limit, digest, **how)

    def ask_in(
        self,
        gallery: str,
        probe: Sequence[float] | Vectors,
        k: int,
        within: float | None = None,
        limit: int = 0,
        digest: str = "e",
        **how: Any,
    ) -> Found:
        search = Search(np.array([probe], np.float32), digest, k, within, limit, **how)
        (found,) = self.store.search_many(gallery, [search])
        if isinstance(found, GalleryError):
            raise found
        return found

    def nearest(self, probe: Sequence[float] | Vectors) -> Candidate:
        """The one nearest subject."""
        return self.ask(probe, 1).candidates[0][0]

    def distance_of(self, subject: str, probe: Sequence[float] | Vectors) -> float:
        """A subject's distance to a probe, by search; inf where it isn't found."""
        found = {c.subject_id: c.distance for c in self.ask(probe, MAX_CANDIDATES).candidates[0]}
        return found.get(subject, float("inf"))

    def subjects(self, page_size: int = 100) -> list[str]:
        seen: list[str] = []
        after: str | None = None
        while True:
            page = self.store.list_subjects("g", page_size=page_size, after=after)
            seen += [subject.id for subject in page.subjects]
            after = page.next_after
            if after is None:
                return seen

    def thresholds(self, page_size: int = 100) -> list[ThresholdVersion]:
        seen: list[ThresholdVersion] = []
        after: int | None = None
        while True:
            page = self.store.list_thresholds("g", page_size=page_size, after=after)
            seen += page.versions
            after = page.next_after
            if after is None:
                return seen


E = TypeVar("E", bound=Exception)
Check = Callable[[Trial], None]
PROMISES: dict[str, Check] = {}


def promise(check: Check) -> Check:
    PROMISES[check.__name__] = check
    return check


@contextlib.contextmanager
def refused(error: type[E]) -> Iterator[list[E]]:
    """Gives a list that has the error in it afterwards."""
    told: list[E] = []
    try:
        yield told
    except error as expected:
        told.append(expected)
        return
    except Exception as other:
        raise AssertionError(f"expected {error.__name__}, got {other!r}") from other
    raise AssertionError(f"expected {error.__name__}, nothing was raised")


def along(x: float) -> tuple[float, float, float, float]:
    """A vector at the squared distance (x - 1)^2 from PROBE, exactly, for small integers x."""
    return (x, 0.0, 0.0, 0.0)


def random_vectors(n: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, DIMENSION), dtype=np.float32)
