"""Events posted to a receiver that works, recovers, refuses, hangs, or is down."""

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from oneglance_apps.urls import redacted
from oneglance_apps.watch.outbox import DeliveryCounts, Listener, Outbox
from oneglance_apps.watch.settings import DeliveryRules
from oneglance_apps.watch.webhook import Webhook
from tests.apps.watch.letters import appearance, letter
from tests.apps.watch.manual_clock import ManualClock
from tests.waiting import PATIENCE_SECONDS, reached

AGAIN = DeliveryRules("at-least-once")


class Receiver:
    """Answers with ``statuses`` in order, then 204, while ``hold`` is set; keeps the events that it accepted."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.accepted: list[dict[str, Any]] = []
        self.requests = 0
        self.heads = 0
        self.hold = threading.Event()
        self.hold.set()
        self.authorization: str | None = None
        self.path = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests += 1
                outer.authorization = self.headers["Authorization"]
                outer.path = self.path
                assert outer.hold.wait(PATIENCE_SECONDS)
                status = outer.statuses.pop(0) if outer.statuses else 204
                if status < 300:
                    outer.accepted.append(body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_HEAD(self) -> None:
                outer.heads += 1
                self.send_response(405)
                self.end_headers()

            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


async def post(url: str, count: int, rules: DeliveryRules | None = None) -> tuple[DeliveryCounts, list[str]]:
    """Post events e0, e1, ..., each when the one before is done; time passes only while one waits for another try."""
    told: list[str] = []
    clock = ManualClock()
    outbox = Outbox(Webhook(url), rules or DeliveryRules(), clock, Listener(told.append))
    for i in range(count):
        outbox.put(letter(clock, appearance(id=f"e{i}")))
        while outbox.counts.delivered + outbox.counts.failed <= i:
            await clock.advance(0.1 if clock.sleeping_for(1.0) else 0)
    await outbox.close(PATIENCE_SECONDS)
    return outbox.counts, told


def ids(receiver: Receiver) -> list[str]:
    return [event["id"] for event in receiver.accepted]


async def test_at_least_once_events_arrive_although_the_receiver_fails_first(receiver: Receiver) -> None:
    receiver.statuses = [500, 503, 429]
    counts, told = await post(receiver.url, 5, AGAIN)
    assert ids(receiver) == [f"e{i}" for i in range(5)]
    assert (counts.delivered, counts.failed, receiver.requests, told) == (5, 0, 8, [])


async def test_at_most_once_each_is_sent_once(receiver: Receiver) -> None:
    receiver.statuses = [500, 503, 429]
    counts, told = await post(receiver.url, 5)
    assert ids(receiver) == ["e3", "e4"]
    assert (counts.delivered, counts.refused, receiver.requests) == (2, 3, 5)
    assert [words.partition(": ")[2] for words in told] == [
        "HTTP status 500; an event was not delivered",
        "takes events again; 3 were not delivered",
    ]


async def test_what_is_refused_is_not_sent_again(receiver: Receiver) -> None:
    receiver.statuses = [404, 404]
    counts, _ = await post(receiver.url, 3, AGAIN)
    assert (counts.delivered, counts.refused, receiver.requests) == (1, 2, 3)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    counts, told = await post(receiver.url, 2)
    assert (counts.delivered, counts.refused, receiver.requests) == (1, 1, 2)
    assert ids(receiver) == ["e1"]
    assert told[0].endswith(f"HTTP status {status}; an event was not delivered")


async def test_any_characters_in_the_path_of_the_url(receiver: Receiver) -> None:
    counts, told = await post(f"{receiver.url}/tür %C3%A9?a=ö&b=c d", 2)
    assert (counts.delivered, told) == (2, [])
    assert receiver.path == "/events/t%C3%BCr%20%C3%A9?a=%C3%B6&b=c%20d"


async def test_a_receiver_that_is_down_gets_nothing_later() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        counts, told = await post(f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/", 3)
    assert (counts.delivered, counts.expired) == (0, 3)
    (words,) = told
    assert "refused" in words
    assert "secret" not in words


async def test_a_password_in_the_url_becomes_a_header(receiver: Receiver) -> None:
    counts, _ = await post(receiver.url.replace("//", "//door:p%40ss@"), 1)
    assert counts.delivered == 1
    assert receiver.authorization == "Basic " + base64.b64encode(b"door:p@ss").decode()


async def test_a_receiver_that_answers_late_gets_the_next_event_at_once(receiver: Receiver) -> None:
    """It answers for the headers meanwhile, so it does not hang."""
    clock = ManualClock()
    outbox = Outbox(Webhook(receiver.url), DeliveryRules(), clock, Listener())
    receiver.hold.clear()
    for name in ("ann", "bea", "cem"):
        before = receiver.requests
        outbox.put(letter(clock, appearance(id=name)))
        await reached(lambda before=before: receiver.requests > before)  # type: ignore[misc]
    assert outbox.counts.delivered == 0
    assert receiver.heads >= 2
    receiver.hold.set()
    await reached(lambda: outbox.counts.delivered == 3)
    assert sorted(ids(receiver)) == ["ann", "bea", "cem"]
    await outbox.close(PATIENCE_SECONDS)


async def test_a_receiver_that_hangs_finds_no_old_events_when_it_wakes() -> None:
    """Its socket takes what comes: without asking first, all of these would wait in it."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hung:
        clock = ManualClock()
        outbox = Outbox(Webhook(f"http://127.0.0.1:{hung.getsockname()[1]}/"), DeliveryRules(), clock, Listener())
        outbox.put(letter(clock, appearance(id="first")))
        first, _ = await asyncio.to_thread(hung.accept)
        with first:
            await asyncio.to_thread(first.recv, 1 << 16)
            for i in range(5):
                outbox.put(letter(clock, appearance(id=f"late{i}")))
                connection, _ = await asyncio.to_thread(hung.accept)
                with connection:
                    assert (await asyncio.to_thread(connection.recv, 1 << 16)).startswith(b"HEAD / ")
            await clock.advance(60)
            assert (outbox.counts.unanswered, outbox.counts.expired) == (1, 5)
        await outbox.close(0)


async def test_trouble_of_any_kind_is_a_failure_of_one_event(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = Webhook(receiver.url)
    monkeypatch.setattr(webhook, "_connected", lambda: "ä".encode("ascii"))
    clock = ManualClock()
    outbox = Outbox(webhook, DeliveryRules(), clock, Listener())
    outbox.put(letter(clock))
    await clock.advance(0)
    assert outbox.counts.unanswered == 1
    monkeypatch.undo()
    outbox.put(letter(clock))
    await reached(lambda: outbox.counts.delivered == 1)
    await outbox.close(0)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/",
        "host:80/x",
        "http://",
        "",
        "http://h h/",
        "ftp://user:secret@host/?token=secret",
        "http://user:secret@[::1/x",
        "http://user:se/secret@host/",
        "http://user:secret@host:port/",
        "http://user:sec#secret@host:1/",
    ],
)
def test_other_urls_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https URL") as caught:
        Webhook(url)
    assert "secret" not in str(caught.value)
    assert "user" not in str(caught.value)


async def test_secrets_in_the_query_are_not_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        _, told = await post(f"http://127.0.0.1:{taken.getsockname()[1]}/e?token=secret", 1)
    assert "/e?***: " in told[0]
    assert "secret" not in told[0]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rtsp://h/x", "rtsp://h/x"),
        ("rtsp://user:pw@h:554/x", "rtsp://h:554/x"),
        ("rtsp://user:p@w@h/x", "rtsp://h/x"),
        ("rtsp://user:p#w@h/x", "rtsp://***@h/x"),
        ("rtsp://user:p/w@h/x", "rtsp://***@h/x"),
        ("rtsp://user:p?w@h/x?y", "rtsp://***@h/x?***"),
        ("rtsp://h/x?user=me&password=pw", "rtsp://h/x?***"),
        ("rtsp://h/x#pw", "rtsp://h/x?***"),
        ("rtsp://user:pw@[::1/x", "rtsp://[::1/x"),
        ("user:pw@h", "h"),
        ("", ""),
    ],
)
def test_urls_are_shown_without_secrets(url: str, words: str) -> None:
    assert redacted(url) == words
