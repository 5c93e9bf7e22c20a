"""Keeper: lets other processes use a GalleryStore. Belongs to an event loop of gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import hmac
import itertools
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, NamedTuple

import grpc
import msgspec

from oneglance_index.approximation import ApproximationState
from oneglance_index.audit import acting
from oneglance_index.errors import GalleryError
from oneglance_index.protocol import GalleryStore
from oneglance_index.records import Gallery, Search
from oneglance_server.sharing.addresses import LIMITS
from oneglance_server.sharing.messages import (
    BYE,
    CANCELLED,
    CODE,
    CODE_KEY,
    METHOD,
    METHODS,
    TOKEN_KEY,
    Answer,
    Asked,
    Call,
    Granted,
    NoQuotas,
    Spending,
    Spent,
    Told,
    encoded,
    fault_of,
    raw,
    read_asked,
)
from oneglance_server.sharing.news import News

log = logging.getLogger(__name__)

# Questions to one gallery that are answered by one scan.
_SEARCHES_AT_ONCE = 256
_NOTHING = raw(None)


class Keeper:
    """`news` hears of every change of `store`'s galleries; `pool` runs what blocks. Users must show `token`, unless it
    is "". `spending`: of this process's own callers."""

    def __init__(
        self, store: GalleryStore, news: News, pool: Executor, token: str = "", spending: Spending | None = None
    ) -> None:
        self._store, self._news, self._pool, self._token = store, news, pool, token
        self._spending = spending or NoQuotas()
        self._users: set[_User] = set()
        self._scans = _Scans(store, pool)

    def server(self) -> grpc.aio.Server:
        """One that lets others use the galleries, once it is told where to listen, and started."""
        service, method = METHOD[1:].split("/")
        made = grpc.aio.server(options=LIMITS)
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.stream_stream_rpc_method_handler(self._use)
        }
        made.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        return made

    async def _use(self, asked: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> Any:
        shown = dict(context.invocation_metadata() or ())
        if self._token and not hmac.compare_digest(str(shown.get(TOKEN_KEY, "")).encode(), self._token.encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the keeper of the galleries wants another token")
        if shown.get(CODE_KEY) != CODE:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "the keeper of the galleries is of another version of oneglance"
            )
        user = _User(asyncio.get_running_loop(), self._news)
        self._news.follow(user)
        self._users.add(user)
        hearing = asyncio.create_task(self._hear(user, asked))
        try:
            async for told in user.messages():
                yield told
        finally:
            hearing.cancel()
            self._users.discard(user)
            self._news.leave(user, at_once=False)

    async def _hear(self, user: _User, asked: AsyncIterator[bytes]) -> None:
        try:
            async for message in asked:
                self._take(user, read_asked(message))
        except Exception:
            log.exception("a process that uses the galleries is cut off")
        finally:
            user.end()

    def _take(self, user: _User, said: Asked) -> None:
        self._news.heard(user, said.heard)
        for call in said.calls:
            self._begin(user, call)
        for number in said.left:
            user.forget(number)
        if said.hello == BYE:
            self._news.leave(user, at_once=True)
        elif said.hello and self._news.grant(user):
            user.grant(self._granted(said.hello))
        if said.spent:
            self._spending.spent_elsewhere(said.spent)
        if said.hello or said.spent:
            here = self._spending.take()
            for one in self._users if here else self._users - {user} if said.spent else ():
                one.others_spent(here if one is user else [*here, *said.spent])

    def _granted(self, hello: int) -> Granted:
        states: dict[str, ApproximationState] = {}
        for gallery_id in self._news.approximate():
            with contextlib.suppress(GalleryError):  # it is gone meanwhile
                state = self._store.approximation_state(gallery_id)
                if state is not None:
                    states[gallery_id] = state
        store = self._store
        return Granted(
            *(hello, self._news.seconds, store.device, store.sound, store.trouble(), store.queued_writes()), states
        )

    def _begin(self, user: _User, call: Call) -> None:
        """In the event loop: writes of one user begin in the order of its calls."""
        try:
            method = METHODS[call.method]
            arguments = msgspec.structs.asdict(method.read_arguments(call.arguments))
        except Exception as error:
            log.exception("a call of another process can't be understood")
            user.answer(Answer(call.number, _NOTHING, fault_of(error)))
            return
        function = getattr(self._store, call.method)
        if call.method == "search_many":
            self._scans.ask(arguments["gallery_id"], _Asking(user, call.number, arguments["searches"]))
        elif method.writes:
            if "caller" in arguments:
                arguments["caller"] = id(user), arguments["caller"]
            context = contextvars.copy_context()
            context.run(acting.set, call.actor)
            try:
                written: Future[Any] = context.run(functools.partial(function, **arguments))
            except Exception as error:
                user.answer(Answer(call.number, _NOTHING, fault_of(error)))
                return
            user.began(call.number, written)
            written.add_done_callback(functools.partial(user.done, call.number))
        else:
            self._pool.submit(function, **arguments).add_done_callback(functools.partial(user.done, call.number))


class _Asking(NamedTuple):
    user: _User
    number: int
    searches: Sequence[Search]


class _Scans:
    """What several users ask a gallery is answered by one scan, where it comes together. Belongs to the event loop."""

    def __init__(self, store: GalleryStore, pool: Executor) -> None:
        self._store, self._pool = store, pool
        # Who waits for the scan under way, by gallery.
        self._waiting: dict[str, deque[_Asking]] = {}

    def ask(self, gallery_id: str, asking: _Asking) -> None:
        waiting = self._waiting.get(gallery_id)
        if waiting is not None:
            waiting.append(asking)
        else:
            self._waiting[gallery_id] = deque([asking])
            self._scan(gallery_id)

    def _scan(self, gallery_id: str) -> None:
        waiting = self._waiting[gallery_id]
        if not waiting:
            del self._waiting[gallery_id]
            return
        together = [waiting.popleft()]
        count = len(together[0].searches)
        while waiting and count + len(waiting[0].searches) <= _SEARCHES_AT_ONCE:
            together.append(waiting.popleft())
            count += len(together[-1].searches)
        loop = asyncio.get_running_loop()
        scanned = self._pool.submit(self._answer, gallery_id, together)
        scanned.add_done_callback(lambda _: loop.call_soon_threadsafe(self._scan, gallery_id))

    def _answer(self, gallery_id: str, together: Sequence[_Asking]) -> None:
        try:
            found = iter(self._store.search_many(gallery_id, [search for one in together for search in one.searches]))
            answers = [Answer(one.number, raw(list(itertools.islice(found, len(one.searches))))) for one in together]
        except Exception as error:
            fault = fault_of(error)
            answers = [Answer(one.number, _NOTHING, fault) for one in together]
        for one, answer in zip(together, answers, strict=True):
            one.user.answer(answer)


class _User:
    """One that uses the galleries, as its Follower: what is to be told to it. Safe for any thread, but messages()."""

    def __init__(self, loop: asyncio.AbstractEventLoop, news: News) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._wake = asyncio.Event()
        self._galleries: list[tuple[str, Gallery | None]] = []
        self._news = 0
        self._answers: list[Answer] = []
        self._granted: Granted | None = None
        self._spent: list[Spent] = []
        self._ended = False
        self._under_way: dict[int, Future[Any]] = {}

    def tell(self, news: int, gallery_id: str, gallery: Gallery | None) -> None:
        with self._lock:
            self._galleries.append((gallery_id, gallery))
            self._news = news
        self._call(self._wake.set)

    def end(self) -> None:
        self._ended = True
        self._call(self._wake.set)

    def began(self, number: int, written: Future[Any]) -> None:
        self._under_way[number] = written

    def forget(self, number: int) -> None:
        """Its caller left: what hasn't begun never happens."""
        written = self._under_way.get(number)
        if written is not None:
            written.cancel()

    def done(self, number: int, done: Future[Any]) -> None:
        try:
            answer = Answer(number, raw(done.result()))
        except CancelledError:
            answer = Answer(number, _NOTHING, CANCELLED)
        except Exception as error:
            if not isinstance(error, (GalleryError, ValueError, TypeError)):
                log.exception("a call of another process failed")
            answer = Answer(number, _NOTHING, fault_of(error))
        self.answer(answer)

    def answer(self, answer: Answer) -> None:
        with self._lock:
            self._under_way.pop(answer.number, None)
            wakes = not self._answers
            self._answers.append(answer)
        if wakes:
            self._call(self._wake.set)

    def grant(self, granted: Granted) -> None:
        self._granted = granted
        self._wake.set()

    def others_spent(self, spent: Sequence[Spent]) -> None:
        self._spent += spent
        self._wake.set()

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            self._ended = True

    async def messages(self) -> AsyncIterator[bytes]:
        """What is to be told, as it comes; first which galleries there are."""
        anew = True
        while not self._ended:
            with self._lock:
                galleries, self._galleries = self._galleries, []
                answers, self._answers = self._answers, []
                granted, self._granted = self._granted, None
                spent, self._spent = self._spent, []
                news = self._news
            if galleries or answers or granted or spent or anew:
                yield encoded(Told(galleries, news, answers, granted, anew, spent))
                anew = False
            await self._wake.wait()
            self._wake.clear()
