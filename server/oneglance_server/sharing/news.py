"""Which galleries there are, and small files, for those that decide by them elsewhere: no change of one is done before
all of them know it, or know that they can't decide any more.

Whoever follows is granted time by and by (Gray and Cheriton 1989, Leases), and decides by what it was told while that
lasts. What it is granted comes with all that was told before, so that a change waits for those alone whose time isn't
over. One that leaves a change unconfirmed for long is granted no more until it has confirmed it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from threading import Condition
from typing import Protocol

from oneglance_index.approximation import EXACT_KIND
from oneglance_index.records import Gallery

# A change isn't held up longer than this by one that is there and doesn't confirm it, plus what it was granted.
_PATIENCE_SECONDS = 1.0


class Follower(Protocol):
    def tell(self, news: int, galleries: Mapping[str, Gallery | None], files: Mapping[str, bytes]) -> None:
        """In the order of the news; from any thread, and quick. None: it is gone."""


class _Following:
    def __init__(self, name: str, heard: int) -> None:
        self.name, self.heard = name, heard
        self.until = 0.0  # of time.monotonic()
        self.given_up = self.left = False

    def is_waited_for(self, news: int, now: float) -> bool:
        return self.heard < news and now < self.until


class News:
    """`seconds`: what is granted at a time. `restarted`: a former process may have granted it, too, just before this
    one had the galleries. Safe for any thread."""

    def __init__(self, seconds: float, *, restarted: bool = False) -> None:
        self.seconds = seconds
        self._granted_before = seconds if restarted else 0.0
        self._quiet_until: float | None = None  # of time.monotonic()
        self._galleries: dict[str, Gallery | None] = {}
        self._approximate: frozenset[str] = frozenset()
        self._files: dict[str, tuple[int, bytes]] = {}  # by name: with which news it was told
        self._begun = False
        self._news = 1
        self._followers: dict[Follower, _Following] = {}
        self._changed = Condition()

    def begin(self, galleries: Iterable[Gallery], files: Mapping[str, bytes]) -> None:
        """Those there were before the first change was told; what was told since counts more."""
        with self._changed:
            told = {gallery.id: gallery for gallery in galleries} | self._galleries
            self._galleries = {gallery_id: gallery for gallery_id, gallery in told.items() if gallery is not None}
            self._files = {name: (self._news, data) for name, data in files.items()} | self._files
            self._note_approximate(self._galleries)
            self._begun = True
            self._begin_quiet()

    def _begin_quiet(self) -> None:
        if self._quiet_until is None:
            self._quiet_until = time.monotonic() + self._granted_before

    def approximate(self) -> Iterable[str]:
        """The ids of the galleries whose answers may lose something."""
        return self._approximate

    def _note_approximate(self, galleries: Mapping[str, Gallery | None]) -> None:
        now = {one.id for one in galleries.values() if one is not None and one.active.kind != EXACT_KIND}
        if now != self._approximate & galleries.keys():
            self._approximate = self._approximate - galleries.keys() | now

    def tell(self, galleries: Mapping[str, Gallery | None]) -> None:
        """They are new, changed, or (None) gone. Returns once everybody knows."""
        with self._changed:
            fresh = {
                gallery_id: gallery
                for gallery_id, gallery in galleries.items()
                if not self._begun or _decided_by(gallery) != _decided_by(self._galleries.get(gallery_id))
            }
            self._galleries |= galleries
            if self._begun:
                for gone in [name for name, gallery in galleries.items() if gallery is None]:
                    del self._galleries[gone]
            self._note_approximate(galleries)
            self._begin_quiet()
            if fresh:
                self._await(self._tell(fresh, {}))

    def tell_file(self, name: str, read: Callable[[], bytes], *, wait: bool) -> None:
        """It may be another one; `read` says what is in it now. Returns once everybody knows, unless it isn't to
        wait."""
        with self._changed:
            data, (news, told) = read(), self._files.get(name, (0, b""))
            self._begin_quiet()
            if data != told:
                news = self._tell({}, {name: data})
                self._files[name] = news, data
            if wait:
                self._await(news)

    def _tell(self, galleries: Mapping[str, Gallery | None], files: Mapping[str, bytes]) -> int:
        """The number of this news."""
        self._news += 1
        for follower, following in self._followers.items():
            if not following.left:
                follower.tell(self._news, galleries, files)
        return self._news

    def _await(self, news: int) -> None:
        now = time.monotonic()
        patience = now + _PATIENCE_SECONDS
        quiet_until = self._quiet_until or now
        while True:
            late = [one for one in self._followers.values() if one.is_waited_for(news, now)]
            if not late and now >= quiet_until:
                break
            for one in late:
                one.given_up = one.given_up or now >= patience
            ends = [one.until if one.given_up else min(one.until, patience) for one in late]
            self._changed.wait(min(ends, default=quiet_until) - now)
            now = time.monotonic()
        for follower in [
            one for one, following in self._followers.items() if following.left and now >= following.until
        ]:
            del self._followers[follower]

    def follow(self, follower: Follower, name: str) -> None:
        """It is told all galleries, then each change. The time that another one of this name was granted is its own:
        until it has heard all that, it may decide by what the other one was told."""
        with self._changed:
            following = _Following(name, self._news)
            for former in [one for one, its in self._followers.items() if its.name == name]:
                following.until, following.heard = self._followers[former].until, self._followers[former].heard
                del self._followers[former]
            files = {name: data for name, (_, data) in self._files.items()}
            follower.tell(self._news, {name: gallery for name, gallery in self._galleries.items() if gallery}, files)
            self._followers[follower] = following
            self._changed.notify_all()

    def heard(self, follower: Follower, news: int) -> None:
        """It knows what was told up to this."""
        with self._changed:
            following = self._followers.get(follower)
            if following is not None and news > following.heard:
                following.heard = news
                following.given_up = following.given_up and news < self._news
                self._changed.notify_all()

    def grant(self, follower: Follower) -> bool:
        """It decides by what it was told for `seconds` from now on, unless it was given up."""
        with self._changed:
            following = self._followers.get(follower)
            if following is None or following.given_up or following.left:
                return False
            following.until = time.monotonic() + self.seconds
            return True

    @property
    def quiet(self) -> bool:
        """Whether nobody decides any more by what this, or what was before it, granted."""
        with self._changed:
            now = time.monotonic()
            before = self._granted_before if self._quiet_until is None else self._quiet_until - now
            return before <= 0 and all(one.left and now >= one.until for one in self._followers.values())

    def leave(self, follower: Follower, *, at_once: bool) -> None:
        """It is told nothing any more. Unless it says so itself (`at_once`) it decides on while its time lasts."""
        with self._changed:
            following = self._followers.get(follower)
            if following is None:
                return
            following.left = True
            if at_once or time.monotonic() >= following.until:
                del self._followers[follower]
            self._changed.notify_all()


def _decided_by(gallery: Gallery | None) -> Gallery | None:
    """All of it but its sizes, which others may know late."""
    return None if gallery is None else replace(gallery, revision=0, subjects=0, encodings=0, negatives=0)
