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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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
from oneglance_server.sharing.beside import Beside
from oneglance_server.sharing.code import code
from oneglance_server.sharing.messages import (
    BYE,
    CANCELLED,
    CODE_KEY,
    METHOD,
    METHODS,
    OF_BESIDE,
    TOKEN_KEY,
    USER_KEY,
    Answer,
    Asked,
    Call,
    Granted,
    NoQuotas,
    Spending,
    Spent,
    Told,
    at_once,
    encoded,
    fault_of,
    raw,
    read_asked,
)
from oneglance_server.sharing.news import News

log = logging.getLogger(__name__)

# Questions to one gallery that are answered by one scan.
_SEARCHES_AT_ONCE = 256
_OPTIONS = [
    *LIMITS,
    ("grpc.so_reuseport", 0),  # two keepers at one address would share its users silently
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 30_000),  # of one that uses nothing
    ("grpc.max_concurrent_streams", 16),
    # One whose machine is gone, or that stands still, is found out.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
# One that leaves more answers unread is cut off when there is another one.
_MOST_UNREAD_BYTES = 256 << 20
_NOTHING = raw(None)


class Keeper:
    """`news` hears of every change of `store`'s galleries, and of files; `pool` runs what blocks. Users must show
    `token`, unless it is "". `spending`: of this process's own callers."""

    def __init__(
        self,
        store: GalleryStore,
        beside: Beside,
        news: News,
        pool: Executor,
        token: str = "",
        spending: Spending | None = None,
    ) -> None:
        self._store, self._beside, self._news, self._pool, self._token = store, beside, news, pool, token
        self._spending = spending or NoQuotas()
        self._code = code()
        self._scans = _Scans(store, pool)
        # By the word that each has for itself: once one comes back, nothing begins that it asked for before.
        self._users: dict[str, _User] = {}

    def server(self) -> grpc.aio.Server:
        """One that lets others use the galleries, once it is told where to listen, and started."""
        service, method = METHOD[1:].split("/")
        made = grpc.aio.server(options=_OPTIONS)
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.stream_stream_rpc_method_handler(self._use)
        }
        made.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        return made

    async def _use(self, asked: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> Any:
        shown = dict(context.invocation_metadata() or ())
        if self._token and not hmac.compare_digest(str(shown.get(TOKEN_KEY, "")).encode(), self._token.encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the keeper of the galleries wants another token")
        if shown.get(CODE_KEY) != self._code:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "the keeper of the galleries is of another version of oneglance"
            )
        name, user = str(shown.get(USER_KEY, "")), _User(asyncio.get_running_loop())
        former, self._users[name] = self._users.get(name), user
        if former is not None:
            former.end()
        self._news.follow(user, name)
        hearing = asyncio.create_task(self._hear(user, asked))
        try:
            async for told in user.messages():
                yield told
        finally:
            user.end()
            hearing.cancel()
            self._news.leave(user, at_once=False)
            if self._users.get(name) is user:
                del self._users[name]

    async def _hear(self, user: _User, asked: AsyncIterator[bytes]) -> None:
        try:
            async for message in asked:
                if user.ended:
                    break
                self._take(user, read_asked(message))
        except Exception:
            log.exception("a process that uses the galleries is cut off")
        finally:
            user.end()

    def _take(self, user: _User, said: Asked) -> None:
        self._news.heard(user, said.heard)
        for call in said.calls:
            try:
                self._begin(user, call)
            except Exception as error:
                user.answer(_failed(call.number, error))
        for number in said.left:
            user.forget(number)
        if said.hello == BYE:
            self._news.leave(user, at_once=True)
            user.end()
        elif said.hello and self._news.grant(user):
            user.grant(self._granted(said.hello))
        if said.spent:
            self._spending.spent_elsewhere(said.spent)
        if said.hello or said.spent:
            here = self._spending.take()
            for one in self._users.values():
                told = here if one is user else [*here, *said.spent]
                if told:
                    one.others_spent(told)

    def _granted(self, hello: int) -> Granted:
        states: dict[str, ApproximationState] = {}
        for gallery_id in self._news.approximate():
            with contextlib.suppress(GalleryError):  # it is gone meanwhile
                state = self._store.approximation_state(gallery_id)
                if state is not None:
                    states[gallery_id] = state
        store = self._store
        return Granted(
            *(hello, self._news.seconds, store.device, store.sound, store.trouble(), store.queued_writes()),
            *(self._beside.backs_up, states),
        )

    def _begin(self, user: _User, call: Call) -> None:
        """In the event loop: writes of one user begin in the order of its calls."""
        method = METHODS[call.method]
        arguments = msgspec.structs.asdict(method.read_arguments(call.arguments))
        if call.method == "search_many":
            self._scans.ask(arguments["gallery_id"], _Asking(user, call.number, arguments["searches"]))
            return
        function = getattr(self._beside if call.method in OF_BESIDE else self._store, call.method)
        if method.writes:
            if "caller" in arguments:
                arguments["caller"] = id(user), arguments["caller"]
            context = contextvars.copy_context()
            context.run(acting.set, call.actor)
            begun: Future[Any] = context.run(functools.partial(function, **arguments))
        else:
            begun = self._pool.submit(function, **arguments)
        user.began(call.number, begun)
        begun.add_done_callback(functools.partial(user.done, call.number))


def _failed(number: int, error: BaseException) -> Answer:
    fault = fault_of(error)
    if not fault.kind:
        log.error("a call of another process failed", exc_info=error)
    return Answer(number, _NOTHING, fault)


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
        together: list[_Asking] = []
        count = 0
        while waiting and (not together or count + len(waiting[0].searches) <= _SEARCHES_AT_ONCE):
            asking = waiting.popleft()
            if not asking.user.ended:
                together.append(asking)
                count += len(asking.searches)
        if not together:
            del self._waiting[gallery_id]
            return
        loop = asyncio.get_running_loop()
        try:
            scanned = self._pool.submit(self._answer, gallery_id, together)
        except RuntimeError:  # this process ends
            del self._waiting[gallery_id]
            return
        scanned.add_done_callback(lambda _: _call(loop, self._scan, gallery_id))

    def _answer(self, gallery_id: str, together: Sequence[_Asking]) -> None:
        try:
            found = iter(self._store.search_many(gallery_id, [search for one in together for search in one.searches]))
            answers = [Answer(one.number, raw(list(itertools.islice(found, len(one.searches))))) for one in together]
        except Exception as error:
            if len(together) > 1:  # it may be of one alone
                for one in together:
                    self._answer(gallery_id, [one])
                return
            answers = [_failed(one.number, error) for one in together]
        of_users: dict[_User, list[Answer]] = {}
        for one, answer in zip(together, answers, strict=True):
            of_users.setdefault(one.user, []).append(answer)
        for user, its in of_users.items():
            user.answer(*its)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """From any thread; not at all once the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


class _User:
    """One that uses the galleries, as its Follower: what is to be told to it. tell(), done() and answer() are safe for
    any thread; the rest belongs to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended = False
        self._loop = loop
        self._lock = threading.Lock()
        self._wake = asyncio.Event()
        self._galleries: dict[str, Gallery | None] = {}
        self._files: dict[str, bytes] = {}
        self._news = 0
        self._answers: list[Answer] = []
        self._unread = 0  # bytes of these
        self._granted: Granted | None = None
        self._spent: list[Spent] = []
        self._under_way: dict[int, Future[Any]] = {}

    def tell(self, news: int, galleries: Mapping[str, Gallery | None], files: Mapping[str, bytes]) -> None:
        with self._lock:
            self._galleries |= galleries
            self._files |= files
            self._news = news
        _call(self._loop, self._wake.set)

    def end(self) -> None:
        """What it asked for and hasn't begun never happens."""
        if self.ended:
            return
        self.ended = True
        with self._lock:
            self._answers.clear()
        self._wake.set()
        for begun in list(self._under_way.values()):
            begun.cancel()

    def began(self, number: int, begun: Future[Any]) -> None:
        self._under_way[number] = begun

    def forget(self, number: int) -> None:
        """Its caller left: what hasn't begun never happens."""
        begun = self._under_way.get(number)
        if begun is not None:
            begun.cancel()

    def done(self, number: int, done: Future[Any]) -> None:
        try:
            answer = Answer(number, raw(done.result()))
        except CancelledError:
            answer = Answer(number, _NOTHING, CANCELLED)
        except Exception as error:
            answer = _failed(number, error)
        self.answer(answer)

    def answer(self, *answers: Answer) -> None:
        with self._lock:
            for one in answers:
                self._under_way.pop(one.number, None)
            if self.ended:
                return
            wakes, too_much = not self._answers, self._unread > _MOST_UNREAD_BYTES
            self._answers += answers
            self._unread += sum(len(one.result) for one in answers)
        if too_much:
            log.warning("a process that uses the galleries doesn't read what it asks for: it is cut off")
            _call(self._loop, self.end)
        if wakes:
            _call(self._loop, self._wake.set)

    def grant(self, granted: Granted) -> None:
        self._granted = granted
        self._wake.set()

    def others_spent(self, spent: Sequence[Spent]) -> None:
        self._spent += spent
        self._wake.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """What is to be told, as it comes; first which galleries there are."""
        anew = True
        while not self.ended:
            self._wake.clear()
            with self._lock:
                galleries, self._galleries = self._galleries, {}
                files, self._files = self._files, {}
                count = at_once(self._answers, lambda one: len(one.result))
                answers, self._answers = self._answers[:count], self._answers[count:]
                self._unread -= sum(len(one.result) for one in answers)
                more = bool(self._answers)
                news = self._news
            granted, self._granted = self._granted, None
            spent, self._spent = self._spent, []
            if galleries or files or answers or granted or spent or anew:
                yield encoded(Told(list(galleries.items()), files, news, answers, granted, anew, spent))
                anew = False
            if not more:
                await self._wake.wait()
