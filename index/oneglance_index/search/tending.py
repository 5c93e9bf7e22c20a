"""The thread behind answers that may be approximate: it has indexes sort their rows and find how far to look, and
searches a share of the live probes exactly, too, to count how often the decision would have been another one.

A decision is who the nearest match is, or that nobody is one. Known probes are those with a match by exact search, the
others are strangers. Of what is lost among known ones the operator said how much may be: as soon as it is certainly
more, there is an alarm. It ends when enough known probes after it have shown that it is held.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from oneglance_core.error_words import in_words
from oneglance_core.intervals import clopper_pearson
from oneglance_index.approximation import NOTHING_CHECKED, Approximation, ApproximationState, Checked
from oneglance_index.records import Found, Search
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.threads import started

log = logging.getLogger(__name__)

# Checks take so much of one core at most, and so many probes of a gallery are checked in one go.
_MOST_OF_A_CORE = 0.05
_AT_ONCE = 8
# So many probes wait to be checked at most: of more the oldest are let go.
_WAITING = 256
# Whether the promise is held is told from the last known probes, so many.
_LAST_KNOWN = 20_000
_RETRY_SECONDS = 60.0


@dataclass(slots=True)
class Flips:
    """What live probes of one index have shown. Not safe for threads."""

    wanted: Approximation
    known: Checked = NOTHING_CHECKED
    strangers: Checked = NOTHING_CHECKED
    alarms: int = 0
    alarm: bool = False
    last: deque[bool] = field(default_factory=lambda: deque(maxlen=_LAST_KNOWN))

    def count(self, known: bool, differs: bool) -> bool:
        """One more probe. Whether it is the one that gives the alarm."""
        if not known:
            self.strangers = _plus(self.strangers, differs)
            return False
        self.known = _plus(self.known, differs)
        self.last.append(differs)
        may_differ = 1 - self.wanted.mates_found
        lost = sum(self.last)
        if differs and clopper_pearson(lost, len(self.last))[0] > may_differ:
            self.last.clear()
            self.alarms, self.alarm = self.alarms + 1, True
            return True
        held = lost <= len(self.last) * may_differ
        if self.alarm and held and len(self.last) >= round(1 / may_differ):
            self.alarm = False
        return False


def _plus(checked: Checked, differs: bool) -> Checked:
    return Checked(checked.probes + 1, checked.differing + differs)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A live probe."""

    generation: int
    search: Search


class Tending:
    """`indexes` gives those that there are, by the number of their generation; `share` of the live probes is checked.
    The thread ends with close(), or later."""

    def __init__(self, indexes: Callable[[], Mapping[int, tuple[GalleryIndex, Approximation]]], share: float) -> None:
        self._indexes = indexes
        self._share = share
        self._flips: dict[int, Flips] = {}
        self._seen: deque[_Seen] = deque(maxlen=_WAITING)
        self._due = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards _flips
        self._thread: threading.Thread | None = None  # until there is anything to do

    def close(self) -> None:
        """Nobody waits for the thread: it ends with the step under way."""
        self._closing.set()
        self._due.set()
        self._seen.clear()

    def changed(self, index: GalleryIndex) -> None:
        """Rows came, or a search did, or what is wanted changed. Quick."""
        if index.wants_tending():
            self._wake()

    def _wake(self) -> None:
        """Begins the thread, if it wasn't yet; where no thread can be had, the next search tries again."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                with contextlib.suppress(MemoryError):
                    self._thread = started("tending", self._loop)
        self._due.set()

    def saw(self, generation: int, index: GalleryIndex, searches: Sequence[Search], found: Sequence[object]) -> None:
        """What live searches found. Quick."""
        for search, one in zip(searches, found, strict=True):
            if isinstance(one, Found) and not one.exact and search.within is not None:
                for at in range(len(search.probes)):
                    if random.random() < self._share:
                        probe = replace(search, probes=search.probes[at : at + 1])
                        self._seen.append(_Seen(generation, probe))
                        self._wake()
        self.changed(index)

    def forget(self, generation: int) -> None:
        """What live probes have shown of it."""
        with self._lock:
            self._flips.pop(generation, None)

    def told(self, generation: int, state: ApproximationState) -> ApproximationState:
        """With what live probes have shown."""
        with self._lock:
            flips = self._flips.get(generation)
            if flips is None:
                return state
            return replace(state, known=flips.known, strangers=flips.strangers, alarms=flips.alarms, alarm=flips.alarm)

    def _loop(self) -> None:
        retry: dict[int, float] = {}  # when, after a failure
        patient = False
        while True:
            self._due.wait(max(0.0, min(retry.values()) - time.monotonic()) if retry else None)
            self._due.clear()
            if self._closing.is_set():
                return
            if not patient:  # FAISS is loaded by now
                engine.be_patient()
                patient = True
            indexes = self._those()
            retry = {generation: when for generation, when in retry.items() if generation in indexes}
            for generation, (index, _) in indexes.items():
                if retry.get(generation, -math.inf) > time.monotonic():
                    continue
                retry.pop(generation, None)
                try:
                    if index.wants_tending():
                        index.tend(self._closing.is_set)
                except Exception as error:  # want of memory, say: answers are exact
                    log.warning("sorting the index of generation number %d failed: %s", generation, in_words(error))
                    retry[generation] = time.monotonic() + _RETRY_SECONDS
            if not self._check_some():
                return

    def _those(self) -> Mapping[int, tuple[GalleryIndex, Approximation]]:
        """The indexes that there are; what is known of others is forgotten."""
        indexes = self._indexes()
        with self._lock:
            for generation in set(self._flips) - set(indexes):
                del self._flips[generation]
            for generation, (_, wanted) in indexes.items():
                if generation not in self._flips or self._flips[generation].wanted != wanted:
                    self._flips[generation] = Flips(wanted)
        return indexes

    def _check_some(self) -> bool:
        """The first probes that wait, of one gallery. Whether to go on."""
        these: list[_Seen] = []
        with contextlib.suppress(IndexError):  # no more wait
            while len(these) < _AT_ONCE:
                one = self._seen.popleft()
                if these and one.generation != these[0].generation:
                    self._seen.appendleft(one)
                    break
                these.append(one)
        if self._seen:
            self._due.set()
        found = self._those().get(these[0].generation) if these else None
        if found is None:
            return True
        began = time.perf_counter()
        self._check(these[0].generation, *found, [one.search for one in these])
        pause = (time.perf_counter() - began) * (1 / _MOST_OF_A_CORE - 1)
        return not self._closing.wait(pause)

    def _check(self, generation: int, index: GalleryIndex, wanted: Approximation, searches: Sequence[Search]) -> None:
        try:
            # Together, so that nothing changes in between.
            found = index.search([*searches, *(replace(search, exact=True) for search in searches)])
        except Exception as error:  # the pool is closed, the device lost: whoever asks is told
            log.debug("a check of generation number %d failed: %s", generation, in_words(error))
            return
        near, exact = found[: len(searches)], found[len(searches) :]
        for one, sure in zip(near, exact, strict=True):
            if not isinstance(one, Found) or not isinstance(sure, Found) or one.revision != sure.revision or one.exact:
                continue
            differs = [each.number for each in one.matches[0][:1]] != [each.number for each in sure.matches[0][:1]]
            with self._lock:
                flips = self._flips.get(generation)
                alarm = flips is not None and flips.count(bool(sure.matches[0]), differs)
            if alarm:
                stay = " answers are exact from now on" if wanted.exact_on_alarm else " more is looked at"
                log.warning(
                    "generation number %d: approximate answers lose more than %.3g %% of mates:%s",
                    *(generation, 100 * (1 - wanted.mates_found), stay),
                )
                index.alarm(stay_exact=wanted.exact_on_alarm)
