"""Cases against a running server, and what is wrong with its answers."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from oneglance import Client, OneglanceError
from oneglance.v1.error_pb2 import Error
from tests.fuzz.cases import Case, Cases
from tests.fuzz.seeds import methods, restore
from tests.waiting import PATIENCE_SECONDS

ERROR_KEY = "oneglance-error-bin"
PER_CHANNEL = 100  # cases, then a new connection
RESTORE_EVERY = 200  # cases
_SLOW_LISTED = 10
_DEAD = 100  # calls that were not taken: the server has ended, or is deaf
_MAY_BE = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAVAILABLE,
)
_NEVER = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "UNIMPLEMENTED", "DATA_LOSS")
_REBUILDING = "INDEX_REBUILDING"
_ENDED_EARLY = "Internal error from Core"  # what our side of gRPC says when a stream ended while it was sending
_NOT_OFFERED = "/grpc.health.v1.Health/List"
_METHODS = methods()


@dataclass(frozen=True)
class Outcome:
    """code: of the call; reason: of ours, if it gave one. wrong: what no answer may be, or empty."""

    case: Case
    code: str
    reason: str
    details: str
    seconds: float
    answers: int
    wrong: str = ""


@dataclass
class Findings:
    """What came of many cases. ``codes``: by code and reason. ``untyped``: refusals of our methods without a reason."""

    cases: int = 0
    messages: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    untyped: Counter[str] = field(default_factory=Counter)
    wrong: list[Outcome] = field(default_factory=list)
    slowest: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.cases += 1
        self.messages += len(outcome.case.messages)
        self.codes[f"{outcome.code} {outcome.reason}".strip()] += 1
        ours = outcome.case.path.startswith("/oneglance.")
        if ours and not outcome.reason and outcome.code not in ("OK", "CANCELLED"):
            self.untyped[f"{outcome.code}: {outcome.details[:60]}"] += 1
        if outcome.wrong:
            self.wrong.append(outcome)
        self.slowest = sorted([*self.slowest, outcome], key=lambda one: -one.seconds)[:_SLOW_LISTED]


async def drive(cases: Cases, address: str, findings: Findings, *, messages: int, at_once: int, first: int = 0) -> None:
    """Run cases from number ``first`` on until so many ``messages`` were sent, ``at_once`` calls at a time."""
    numbers = itertools.count(first)

    async def worker() -> None:
        while findings.messages < messages and findings.codes["UNAVAILABLE"] < _DEAD:
            async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
                for _ in range(PER_CHANNEL):
                    if findings.messages >= messages:
                        return
                    number = next(numbers)
                    if number % RESTORE_EVERY == RESTORE_EVERY - 1:
                        await asyncio.to_thread(_restore, address)
                    findings.add(await run(channel, cases.case(number)))

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def run_alone(address: str, case: Case) -> Outcome:
    async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        await channel.channel_ready()
        return await run(channel, case)


async def run(channel: grpc.aio.Channel, case: Case) -> Outcome:
    method = _METHODS[case.path]
    timeout = case.deadline_seconds or PATIENCE_SECONDS
    gzip = grpc.Compression.Gzip if case.gzip else None
    begun = time.perf_counter()
    kind = ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary")
    stub = getattr(channel, kind)(case.path)
    request = _each(case.messages) if method.client_streaming else case.messages[0]
    call = stub(request, timeout=timeout, compression=gzip)
    canceller = None
    if case.cancel_after_seconds is not None:
        canceller = asyncio.get_running_loop().call_later(case.cancel_after_seconds, call.cancel)
    answers: list[bytes] = []
    reason = details = ""
    try:
        if method.server_streaming:
            async for answer in call:
                answers.append(answer)
        else:
            answers.append(await call)
        code = "OK"
    except grpc.aio.AioRpcError as error:
        code, details = error.code().name, error.details() or ""
        if details == _ENDED_EARLY:
            code = "ENDED_EARLY"
        for key, value in error.trailing_metadata() or ():
            if key == ERROR_KEY and isinstance(value, bytes):
                reason = Error.FromString(value).reason
        if reason == _REBUILDING:  # another message changed the gallery's rule of fusion
            code = reason
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
        code, details = "CANCELLED", "by us"
    finally:
        if canceller is not None:
            canceller.cancel()
    seconds = time.perf_counter() - begun
    return Outcome(case, code, reason, details, seconds, len(answers), _wrong(case, code, details, answers))


def _wrong(case: Case, code: str, details: str, answers: list[bytes]) -> str:
    if code in _NEVER and not (case.path == _NOT_OFFERED and code == "UNIMPLEMENTED"):
        return f"{code}: {details}"
    if code == "CANCELLED" and case.cancel_after_seconds is None and case.deadline_seconds is None:
        return f"cancelled, but not by us: {details}"
    if code == "DEADLINE_EXCEEDED" and case.deadline_seconds is None:
        return f"no answer in {PATIENCE_SECONDS:.0f} s"
    kind = GetMessageClass(_METHODS[case.path].output_type)
    for answer in answers:
        try:
            message = kind()
            message.ParseFromString(answer)
        except DecodeError:
            return "an answer that is no message"
        error = getattr(message, "error", None)
        if isinstance(error, Error) and error.code in (grpc.StatusCode.INTERNAL.value[0], 2):
            return f"an item was answered INTERNAL {error.reason}"
    return ""


async def _each(messages: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def _restore(address: str) -> None:
    with Client(address, timeout_seconds=PATIENCE_SECONDS) as client:
        try:
            restore(client)
        except OneglanceError as error:  # a case deleted or made it anew meanwhile, or ended the server
            if error.code not in _MAY_BE:
                raise


_CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
