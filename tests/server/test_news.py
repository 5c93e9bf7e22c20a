"""What galleries are like is known to all who decide by them before a change is done; nobody else is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from oneglance_index import Gallery, LocalGalleries
from oneglance_server.sharing import news as sharing_news
from oneglance_server.sharing.news import News
from tests.waiting import PATIENCE_SECONDS, until

LONG = 10 * PATIENCE_SECONDS


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    with LocalGalleries.open(tmp_path_factory.mktemp("news")) as store:
        return store.create_gallery("g", encoder_digest="e", dimension=4).result()


class User:
    """As one elsewhere decides: by what it was told, as long as it was granted."""

    def __init__(self, news: News, name: str = "a") -> None:
        self.told: list[tuple[int, dict[str, Gallery | None]]] = []
        self.files: dict[str, bytes] = {}
        self._news = news
        news.follow(self, name)

    def tell(self, news: int, galleries: Mapping[str, Gallery | None], files: Mapping[str, bytes]) -> None:
        self.told.append((news, dict(galleries)))
        self.files |= files

    def confirm(self) -> None:
        self._news.heard(self, self.told[-1][0])


class Telling:
    """Of a change, in a thread of its own."""

    def __init__(self, news: News, galleries: Mapping[str, Gallery | None]) -> None:
        self.seconds = -1.0
        self._thread = threading.Thread(target=self._tell, args=(news, galleries), daemon=True)
        self._thread.start()

    def _tell(self, news: News, galleries: Mapping[str, Gallery | None]) -> None:
        begun = time.monotonic()
        news.tell(galleries)
        self.seconds = time.monotonic() - begun

    def is_done(self) -> bool:
        return not self._thread.is_alive()


def begun(seconds: float, *galleries: Gallery, restarted: bool = False) -> News:
    news = News(seconds, restarted=restarted)
    news.begin(galleries, {})
    return news


def changed(gallery: Gallery, number: int) -> Gallery:
    return replace(gallery, target_fpir=number / 100, revision=number)


def test_a_change_waits_for_who_decides(gallery: Gallery) -> None:
    news = begun(LONG, gallery)
    users = [User(news, name) for name in "ab"]
    assert all(news.grant(user) for user in users)
    telling = Telling(news, {"g": changed(gallery, 1)})
    until(lambda: all(len(user.told) == 2 for user in users))
    users[0].confirm()
    assert not telling.is_done()
    users[1].confirm()
    until(telling.is_done)
    assert users[0].told[1][1] == {"g": changed(gallery, 1)}


def test_who_decides_nothing_is_not_waited_for(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing_news, "_PATIENCE_SECONDS", LONG)
    news = begun(0.05, gallery)
    User(news, "was granted nothing")
    over = User(news, "its time is over")
    assert news.grant(over)
    until(Telling(news, {"g": changed(gallery, 1)}).is_done)
    gone = User(news, "says so")
    news.seconds = LONG
    assert news.grant(gone)
    news.leave(gone, at_once=True)
    until(Telling(news, {"g": changed(gallery, 2)}).is_done)


def test_one_that_comes_back_is_waited_for_until_it_has_heard_all(gallery: Gallery) -> None:
    """By what it was granted before it may decide until then."""
    news = begun(LONG, gallery)
    former = User(news)
    assert news.grant(former)
    before = Telling(news, {"g": changed(gallery, 1)})
    until(lambda: len(former.told) == 2)
    news.leave(former, at_once=False)
    back = User(news)
    meanwhile = Telling(news, {"g": changed(gallery, 2)})
    until(lambda: len(back.told) == 2)
    assert not before.is_done()
    assert not meanwhile.is_done()
    back.confirm()
    until(lambda: before.is_done() and meanwhile.is_done())
    assert len(former.told) == 2


def test_what_is_granted_comes_after_all_that_was_told(gallery: Gallery) -> None:
    news = begun(0.05, gallery)
    user = User(news)
    for number in range(1, 4):
        news.tell({"g": changed(gallery, number)})
    assert news.grant(user)
    assert user.told[-1][1] == {"g": changed(gallery, 3)}


def test_who_confirms_nothing_is_granted_nothing_until_it_does(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing_news, "_PATIENCE_SECONDS", 0.05)
    news = begun(0.2, gallery)
    user = User(news)
    assert news.grant(user)
    telling = Telling(news, {"g": changed(gallery, 1)})
    until(lambda: not news.grant(user))
    until(telling.is_done)
    assert not news.grant(user)
    user.confirm()
    assert news.grant(user)


def test_one_that_left_without_a_word_decides_while_its_time_lasts(gallery: Gallery) -> None:
    news = begun(0.5, gallery)
    user = User(news)
    granted = time.monotonic()
    assert news.grant(user)
    news.leave(user, at_once=False)
    assert not news.grant(user)
    until(Telling(news, {"g": changed(gallery, 1)}).is_done)
    assert time.monotonic() - granted >= 0.5
    assert len(user.told) == 1
    assert not news._followers


def test_what_was_granted_before_a_kill_is_waited_for(gallery: Gallery) -> None:
    begin = time.monotonic()
    news = begun(0.5, gallery, restarted=True)
    until(Telling(news, {"g": changed(gallery, 1)}).is_done)
    assert time.monotonic() - begin >= 0.5


@pytest.mark.parametrize(
    "same", [lambda g: g, lambda g: replace(g, revision=9, subjects=3, encodings=4, negatives=1)], ids=["all", "sizes"]
)
def test_what_nobody_decides_by_is_not_waited_for(gallery: Gallery, same: Callable[[Gallery], Gallery]) -> None:
    news = begun(LONG, gallery, restarted=True)
    user = User(news)
    assert news.grant(user)
    until(Telling(news, {"g": same(gallery)}).is_done)
    assert len(user.told) == 1
    assert User(news, "new").told[0][1] == {"g": same(gallery)}


def test_what_is_told_while_the_galleries_are_read_counts_more(gallery: Gallery, tmp_path: Path) -> None:
    news = News(LONG)
    news.tell({"g": changed(gallery, 1), "h": None})
    news.begin([gallery, replace(gallery, id="h"), replace(gallery, id="i")], {})
    ((_, told),) = User(news).told
    assert {name: one and one.target_fpir for name, one in told.items()} == {"g": 0.01, "i": None}


def test_a_file_waits_for_who_decides_by_it_and_the_newest_is_told_last(gallery: Gallery) -> None:
    news = begun(LONG, gallery)
    user = User(news)
    news.grant(user)
    data = [b"one"]
    news.tell_file("keys", lambda: data[0], wait=False)
    assert user.files == {"keys": b"one"}
    acknowledged = threading.Event()

    def tell() -> None:
        news.tell_file("keys", lambda: data[0], wait=True)  # told already, and not known yet
        acknowledged.set()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    user.confirm()
    until(acknowledged.is_set)
    thread.join()
    assert len(user.told) == 2
    late = User(news, "late")
    assert late.files == {"keys": b"one"}


def test_which_galleries_may_lose_something_is_known_as_they_change(gallery: Gallery) -> None:
    approximate = replace(gallery, active=replace(gallery.active, kind="approximate:0.99"))
    news = begun(LONG, gallery, replace(approximate, id="a"))
    assert set(news.approximate()) == {"a"}
    news.tell({"g": approximate, "a": None})
    assert set(news.approximate()) == {"g"}
    news.tell({"g": replace(approximate, subjects=5)})
    assert set(news.approximate()) == {"g"}
    news.tell({"g": gallery})
    assert set(news.approximate()) == set()
