"""Which galleries there are, for those that decide by them elsewhere: no change of one is done before all of them know
it, or know that they can't decide any more.

Whoever follows is granted time by and by (Gray and Cheriton 1989, Leases), and decides by what it was told while that
lasts. One that doesn't confirm what is new is granted no more; a change waits for it until its time is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Protocol

from oneglance_index.approximation import EXACT_KIND
from oneglance_index.records import Gallery

# A change isn't held up longer than this by one that is there and doesn't confirm it, plus what it was granted.
_PATIENCE_SECONDS = 1.0


class Follower(Protocol):
    def tell(self, news: int, gallery_id: str, gallery: Gallery | None) -> None:
        """In the order of the news; from any thread, and quick. None: it is gone."""

    def end(self) -> None:
        """It is told nothing any more."""


class _Following:
    def __init__(self, heard: int) -> None:
        self.heard = heard
        self.until = 0.0  # of time.monotonic()
        self.given_up = False

    def is_waited_for(self, news: int, now: float) -> bool:
        return self.heard < news and not (self.given_up and now >= self.until)


class News:
    """`seconds`: what is granted at a time. Safe for any thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._galleries: dict[str, Gallery | None] = {}
        self._begun = False
        self._news = 1
        self._followers: dict[Follower, _Following] = {}
        self._changed = threading.Condition()

    def begin(self, galleries: Iterable[Gallery]) -> None:
        """Those there were before the first change was told; what was told since counts more."""
        with self._changed:
            told = {gallery.id: gallery for gallery in galleries} | self._galleries
            self._galleries = {gallery_id: gallery for gallery_id, gallery in told.items() if gallery is not None}
            self._begun = True

    def approximate(self) -> list[str]:
        """The ids of the galleries whose answers may lose something."""
        with self._changed:
            return [one.id for one in self._galleries.values() if one is not None and one.active.kind != EXACT_KIND]

    def tell(self, gallery_id: str, gallery: Gallery | None) -> None:
        """A gallery is new, changed, or (None) gone. Returns once everybody knows."""
        with self._changed:
            self._galleries[gallery_id] = gallery
            if gallery is None and self._begun:
                del self._galleries[gallery_id]
            self._news += 1
            news = self._news
            for follower in self._followers:
                follower.tell(news, gallery_id, gallery)
            patience = time.monotonic() + _PATIENCE_SECONDS
            while True:
                now = time.monotonic()
                late = [one for one in self._followers.values() if one.is_waited_for(news, now)]
                if not late:
                    break
                for one in late:
                    one.given_up = one.given_up or now >= patience
                self._changed.wait(min(one.until if one.given_up else patience for one in late) - now)
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Those that were given up, and decide no more."""
        for follower, following in list(self._followers.items()):
            if following.given_up and now >= following.until:
                del self._followers[follower]
                follower.end()

    def follow(self, follower: Follower) -> None:
        """It is told all galleries, then each change."""
        with self._changed:
            for gallery_id, gallery in self._galleries.items():
                if gallery is not None:
                    follower.tell(self._news, gallery_id, gallery)
            self._followers[follower] = _Following(self._news)

    def heard(self, follower: Follower, news: int) -> None:
        """It knows what was told up to this."""
        with self._changed:
            following = self._followers.get(follower)
            if following is not None and news > following.heard:
                following.heard = news
                self._changed.notify_all()

    def grant(self, follower: Follower) -> bool:
        """It decides by what it was told for `seconds` from now on, unless it was given up."""
        with self._changed:
            following = self._followers.get(follower)
            if following is None or following.given_up:
                return False
            following.until = time.monotonic() + self.seconds
            return True

    def leave(self, follower: Follower, *, at_once: bool) -> None:
        """It is told nothing any more. Unless it says so itself (`at_once`) it decides on while its time lasts."""
        with self._changed:
            following = self._followers.get(follower)
            if following is not None:
                following.given_up = True
                if at_once:
                    following.until = 0.0
                self._forget(time.monotonic())
                self._changed.notify_all()
