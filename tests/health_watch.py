"""How long a server is deaf: its health asked again and again from another process."""

import time
from dataclasses import dataclass
from threading import Event

import grpc

CHECK = "/grpc.health.v1.Health/Check"
EVERY_SECONDS = 0.05
SERVING = b"\x08\x01"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer about health. ``begun``: time.monotonic(). ``what``: SERVING, NOT_SERVING or a gRPC code."""

    begun: float
    seconds: float
    what: str


def watch_health(stop: Event, address: str) -> list[Answer]:
    """Ask every 50 ms until ``stop``, one question at a time: ``seconds`` is how long nobody was heard."""
    answers: list[Answer] = []
    with grpc.insecure_channel(address) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
        while not stop.is_set():
            begun = time.monotonic()
            try:
                what = "SERVING" if check(b"", timeout=120) == SERVING else "NOT_SERVING"
            except grpc.RpcError as error:
                what = error.code().name
            took = time.monotonic() - begun
            answers.append(Answer(begun, took, what))
            stop.wait(max(0.0, EVERY_SECONDS - took))
    return answers


def longest_stall(answers: list[Answer]) -> Answer:
    return max(answers, key=lambda answer: answer.seconds)
