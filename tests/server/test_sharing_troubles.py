"""Galleries that one process keeps and others use, where something goes wrong: nobody waits for ever, nothing is done
late, and what is bad of one is not bad for another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import grpc
import numpy as np
import pytest

from oneglance_index import EngineUnavailable, GalleryStore, LocalGalleries, OutOfMemory, Search, StoreClosed
from oneglance_server.sharing import keeper as keeping
from oneglance_server.sharing import messages, remote
from oneglance_server.sharing.code import code
from oneglance_server.sharing.files import RemoteFiles
from oneglance_server.sharing.remote import RemoteGalleries, open_remote
from tests.index.holding import Hold
from tests.server.sharing import Kept, kept
from tests.server.test_sharing import VECTORS, Deaf
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Kept]:
    keeper = Kept(tmp_path)
    keeper.store.create_gallery("g", encoder_digest="e", dimension=8).result()
    yield keeper
    keeper.close()


@pytest.fixture
def user(keeper: Kept) -> Iterator[GalleryStore]:
    user = open_remote(keeper.keeping)
    yield user
    user.close()


def session_of(user: GalleryStore) -> remote._Session:
    session = cast(RemoteGalleries, user)._session
    assert session is not None
    return session


def in_time(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns; fails where it doesn't return."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(function(*arguments))
        except Exception as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(PATIENCE_SECONDS)


def test_what_was_asked_before_the_connection_was_lost_is_never_done_afterwards(
    keeper: Kept, user: GalleryStore
) -> None:
    hold = Hold(keeper.store)
    lost: list[Future[Any]] = [user.enroll("g", f"s{i}", VECTORS[:1]) for i in range(3)]
    lost += [user.set_fusion("g", "mean"), user.delete_gallery("g")]
    until(lambda: keeper.store.queued_writes() == 5)
    session_of(user).cancel()
    assert all(isinstance(one.exception(PATIENCE_SECONDS), EngineUnavailable) for one in lost)
    until(lambda: user.trouble() is None)
    later = user.enroll("g", "later", VECTORS[:1])
    hold.end.set()
    later.result()
    assert user.subject_ids("g") == ["later"]
    assert user.known("g").active.fusion == "nearest"


def test_of_one_that_comes_back_nothing_begins_that_it_asked_for_before(keeper: Kept) -> None:
    """Where the keeper doesn't know yet that the former connection is lost."""

    def come() -> tuple[remote._Session, threading.Thread]:
        session = remote._Session(keeper.keeping, "the same", messages.NoQuotas(), RemoteFiles())

        def hear() -> None:
            for told in session.told():
                session.hear(told)

        thread = threading.Thread(target=hear)
        thread.start()
        until(lambda: session.until)
        return session, thread

    hold = Hold(keeper.store)
    former, hearing = come()
    former.ask("enroll", messages.raw(["g", "s", VECTORS[:1]]), None)
    until(lambda: keeper.store.queued_writes() == 1)
    session, thread = come()
    hearing.join(PATIENCE_SECONDS)
    assert not hearing.is_alive()
    session.leave()
    thread.join(PATIENCE_SECONDS)
    hold.end.set()
    assert keeper.store.delete_gallery("g").result().gallery.encodings == 0
    for one in (former, session):
        one.end(RuntimeError)  # type: ignore[arg-type]


def test_it_closes_while_the_keeper_stands_still(keeper: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_LEAVE_SECONDS", 0.1)
    user = open_remote(keeper.keeping)
    stands = threading.Event()
    keeper.loop.call_soon_threadsafe(stands.wait)
    written = user.enroll("g", "s", VECTORS[:1])
    in_time(user.close, 0.1)
    assert isinstance(written.exception(PATIENCE_SECONDS), StoreClosed)
    stands.set()


def test_it_closes_while_the_keeper_was_never_there(keeper: Kept) -> None:
    stands = threading.Event()
    keeper.loop.call_soon_threadsafe(stands.wait)
    user = RemoteGalleries(keeper.keeping)
    until(lambda: user._newest is not None)
    in_time(user.close)
    stands.set()


def test_one_that_was_closed_decides_nothing_more(keeper: Kept, user: GalleryStore) -> None:
    hold = Hold(keeper.store)
    written = user.enroll("g", "s", VECTORS[:1])
    closing = threading.Thread(target=user.close)
    closing.start()
    until(lambda: cast(RemoteGalleries, user)._closed.is_set())
    with pytest.raises(StoreClosed):
        user.known("g")
    with pytest.raises(StoreClosed):
        user.get_gallery("g")
    assert not written.done()  # what waits is finished
    hold.end.set()
    closing.join(PATIENCE_SECONDS)
    assert written.result().revision == 1


def test_one_that_was_told_nothing_for_long_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept(tmp_path, 1, seconds=0.5) as (_, (user,)):
        user.create_gallery("g", encoder_digest="e", dimension=8).result()
        deaf = Deaf(user, monkeypatch)

        def has_no_more_patience() -> bool:
            with contextlib.suppress(EngineUnavailable):
                cast(RemoteGalleries, user)._here(patient=True)
                return False
            return True

        until(has_no_more_patience)
        assert user.trouble()
        with pytest.raises(EngineUnavailable, match="doesn't answer"):
            in_time(user.get_gallery, "g")
        deaf.over.set()
        until(lambda: user.trouble() is None)


def test_an_answer_that_cannot_be_read_fails_its_call_alone(
    user: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Any) -> Any:
        raise ValueError("no answer")

    with monkeypatch.context() as patch:
        patch.setitem(messages.METHODS, "enroll", messages.METHODS["enroll"]._replace(read_result=unreadable))
        with pytest.raises(ValueError, match="no answer"):
            user.enroll("g", "s", VECTORS[:1]).result(PATIENCE_SECONDS)
    assert user.subject_ids("g") == ["s"]


def test_it_goes_on_once_there_are_threads_again(
    keeper: Kept, user: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def no_thread(*_: Any) -> Any:
        tried.set()
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(remote, "_Session", no_thread)
        session_of(user).cancel()
        until(tried.is_set)
        until(lambda: "can't start" in (user.trouble() or ""))
    until(lambda: user.trouble() is None)


def test_a_bad_question_of_one_is_not_answered_to_another(
    keeper: Kept, user: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, begun, over = keeper.store.search_many, threading.Event(), threading.Event()
    together: list[int] = []

    def one_by_one(gallery_id: str, searches: Sequence[Search]) -> Any:
        together.append(len(searches))
        begun.set()
        assert over.wait(PATIENCE_SECONDS)
        if any(one.candidates == 3 for one in searches):
            raise OutOfMemory("for these searches")
        return search(gallery_id, searches)

    monkeypatch.setattr(keeper.store, "search_many", one_by_one)

    def ask(candidates: int) -> Future[Any]:
        raw = messages.raw(["g", [Search(VECTORS[:1], "e", candidates)]])
        return session_of(user).ask("search_many", raw, messages.METHODS["search_many"].read_result)

    first = ask(1)
    until(begun.is_set)
    others = [ask(2), ask(3), ask(2)]
    until(lambda: sum(map(len, _waiting(keeper))) == 3)
    over.set()
    assert [type(one.exception(PATIENCE_SECONDS)) for one in (first, *others)] == [
        *(type(None), type(None), OutOfMemory, type(None))
    ]
    assert together[:2] == [1, 3]


def _waiting(keeper: Kept) -> list[Any]:
    return list(keeper.keeper._scans._waiting.values())


def test_messages_are_bounded_and_all_come_in_order(
    keeper: Kept, user: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def measured(message: Any) -> bytes:
        made = messages.encoded(message)
        sizes.append(len(made))
        return made

    monkeypatch.setattr(messages, "_MESSAGE_BYTES", 1000)
    for module in (remote, keeping):
        monkeypatch.setattr(module, "encoded", measured)
    written = [user.enroll("g", "s", VECTORS[i % 8 : i % 8 + 1], on_existing="replace") for i in range(200)]
    assert [future.result().revision for future in written] == list(range(1, 201))
    assert max(sizes) < 3000


def test_what_is_given_as_lists_is_taken_and_what_makes_no_sense_is_refused_as_by_the_keeper(
    keeper: Kept, user: GalleryStore
) -> None:
    lists: Any = [[1.0] + [0.0] * 7]
    labels = MappingProxyType({"a": "b"})
    for store, name in ((keeper.store, "here"), (user, "there")):
        store.enroll("g", name, lists, labels=labels).result()
        store.set_threshold("g", np.float64(0.25)).result()
        assert store.verify("g", name, lists, encoder_digest="e").candidates[0][0].distance == 0
        bad: list[Any] = [[[1.0], [1.0, 2.0]], np.array([object()]), [["a"]], []]
        for encodings in bad:
            assert isinstance(store.enroll("g", name, encodings).exception(), ValueError | TypeError), encodings
        assert isinstance(store.set_threshold("g", float("nan")).exception(), ValueError)
        with pytest.raises(TypeError):
            store.set_threshold("g")  # type: ignore[call-arg]
        with pytest.raises((ValueError, OverflowError)):
            store.list_thresholds("g", after=1 << 70)


def test_a_gallery_is_found_by_the_very_id_before_the_composed_one(user: GalleryStore) -> None:
    user.create_gallery("caf\u00e9", encoder_digest="e", dimension=8).result()
    assert user.known("cafe\u0301").id == "caf\u00e9"
    galleries = session_of(user).galleries  # of two that an earlier version took, both stay
    galleries["cafe\u0301"] = galleries["g"]
    assert user.known("cafe\u0301").id == "g"


def test_no_thread_is_left_of_a_connection(keeper: Kept, user: GalleryStore) -> None:
    before = threading.active_count()
    for _ in range(20):
        session = session_of(user)
        session.cancel()
        until(lambda session=session: cast(RemoteGalleries, user)._session not in (None, session))  # type: ignore[misc]
    until(lambda: threading.active_count() <= before)
    until(lambda: len(keeper.news._followers) == 1)
    assert len(keeper.keeper._users) == 1


def test_who_is_cancelled_before_it_was_said_never_happens(keeper: Kept, user: GalleryStore) -> None:
    hold = Hold(keeper.store)
    written: list[Future[Any]] = [user.enroll("g", "s", VECTORS[:1]) for _ in range(20)]
    for one in written:
        one.cancel()
    for one in written:
        with pytest.raises(CancelledError):
            one.result(PATIENCE_SECONDS)
    hold.end.set()
    assert user.subject_ids("g") == []


def test_sizes_are_told_to_nobody_and_all_of_one_transaction_at_once(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    with LocalGalleries.open(tmp_path, on_galleries=lambda galleries: told.append(dict(galleries))) as store:
        store.create_gallery("g", encoder_digest="e", dimension=8).result()
        store.enroll("g", "s", VECTORS[:1]).result()
        store.start_move("g", "h", encoder_digest="f", dimension=4).result()
        assert [set(one) for one in told] == [{"g"}, {"g", "h"}]
        store.cut_over("g", leave=True).result()
        assert set(told[-1]) == {"g", "h"}
        store.delete_gallery("g").result()
        assert told[-1] == {"g": None, "h": None}


@pytest.mark.parametrize("said", [b"", b"\xc1", b"\x93", messages.encoded([1, 2, 3, 4, 5]), bytes(1 << 20)])
def test_who_says_what_means_nothing_is_cut_off_alone(keeper: Kept, user: GalleryStore, said: bytes) -> None:
    with keeper.keeping.channel() as channel:
        use: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(messages.METHOD)
        shown = ((messages.CODE_KEY, code()), (messages.USER_KEY, "odd"))
        told = use(iter([said, messages.encoded(messages.Asked([], [], 0, 1, []))]), metadata=shown)
        for message in told:
            assert messages.read_told(message).granted is None  # it is told which galleries there are, and no more
    assert user.enroll("g", "s", VECTORS[:1]).result().created
    assert user.trouble() is None


def test_one_that_reads_nothing_of_what_it_asks_for_is_cut_off(
    keeper: Kept, user: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all answers would pile up in the keeper's memory."""
    for each in range(100):  # so that all answers are more than what gRPC takes that nobody has read
        user.enroll("g", f"s{each}", VECTORS[:1], labels={"a": "x" * 250}).result()
    monkeypatch.setattr(keeping, "_MOST_UNREAD_BYTES", 100_000)
    over = threading.Event()

    def says() -> Iterator[bytes]:
        for number in range(5000):
            call = messages.Call(number, "list_subjects", None, messages.raw(["g"]))
            yield messages.encoded(messages.Asked([call], [], 0, 0, []))
        over.wait(PATIENCE_SECONDS)

    with keeper.keeping.channel() as channel:
        use: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(messages.METHOD)
        told = use(says(), metadata=((messages.CODE_KEY, code()), (messages.USER_KEY, "idle")))
        until(lambda: "idle" in keeper.keeper._users)
        idle = keeper.keeper._users["idle"]
        until(lambda: idle.ended)
        assert idle._answers == []
        assert user.enroll("g", "t", VECTORS[:1]).result().created  # others go on
        assert sum(len(messages.read_told(message).answers) for message in told) < 5000
        over.set()
