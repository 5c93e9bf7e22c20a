"""Events as text and JSON, and posted to a receiver that works, recovers, refuses, or is down."""

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from oneglance_apps.frames.moment import Moment
from oneglance_apps.urls import redacted
from oneglance_apps.watch import event_poster
from oneglance_apps.watch.event_poster import EventPoster
from oneglance_apps.watch.events import Event, as_json, as_record, as_text
from oneglance_apps.watch.track import Box
from tests.waiting import PATIENCE_SECONDS, until

ANN = Event("identified", 3, Moment(62, 12.4), "ann", "ann", 0.12345, 0.254, Box(10, 20.5, 96, 96), 2, 0.2)
STRANGER = replace(ANN, kind="unknown", subject_id=None, moment=Moment(9, 1.8, datetime(2026, 1, 2, tzinfo=UTC)))


def test_every_event_has_every_field() -> None:
    ann, stranger = (json.loads(as_json(as_record(e, "people", "gate.mp4"))) for e in (ANN, STRANGER))
    assert ann.keys() == stranger.keys()
    assert ann == {
        "kind": "identified",
        "gallery": "people",
        "source": "gate.mp4",
        "appearance": 3,
        "time": None,
        "seconds": 12.4,
        "frame": 62,
        "picture": None,
        "subject_id": "ann",
        "distance": 0.12345,
        "tau": 0.254,
        "nearest": None,
        "unknown_reason": None,
        "rival": None,
        "box": {"x": 10, "y": 20.5, "width": 96, "height": 96},
        "frames": 2,
        "duration": 0.2,
    }
    assert stranger["nearest"] == {"subject_id": "ann", "distance": 0.12345}
    assert (stranger["unknown_reason"], stranger["rival"]) == ("nobody_near", None)
    assert stranger["time"] == "2026-01-02T00:00:00.000+00:00"


def test_of_an_ambiguous_face_both_names_are_told() -> None:
    twins = replace(STRANGER, rival="bea")
    record = as_record(twins, "people", "gate.mp4")
    assert (record["subject_id"], record["unknown_reason"]) == (None, "ambiguous")
    assert (record["nearest"]["subject_id"], record["rival"]) == ("ann", "bea")
    assert "  ann or bea  " in as_text(twins)


def test_lines_are_aligned() -> None:
    late = replace(ANN, moment=Moment(9999, 12345.6, picture="x.png"), subject_id="bartholomew")
    nobody = replace(STRANGER, nearest=None, distance=None, tau=None, box=None, moment=Moment(0, 0.0))
    lines = [as_text(e) for e in (ANN, late, nobody, replace(ANN, kind="left"))]
    for line in lines:
        assert re.match(r" *[\d.]+ s  (identified|unknown   |left      )  (ann|bartholomew|unknown) ", line)
        assert line.index(" s  ") == 8
    assert "after 0.2 s in 2 frames" in lines[3]
    assert as_text(STRANGER).startswith("2026-01-02 00:00:00+00:00  unknown")


class Receiver:
    """Answers with ``statuses`` in order, then 204; keeps the events that it accepted."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.accepted: list[dict[str, Any]] = []
        self.requests = 0
        self.authorization: str | None = None
        self.path = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests += 1
                outer.authorization = self.headers["Authorization"]
                outer.path = self.path
                status = outer.statuses.pop(0) if outer.statuses else 204
                if status < 300:
                    outer.accepted.append(body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
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


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_poster, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(event_poster, "POST_TIMEOUT_SECONDS", PATIENCE_SECONDS)


def post(url: str, count: int) -> tuple[EventPoster, list[str]]:
    told: list[str] = []
    poster = EventPoster(url, told.append)
    for i in range(count):
        poster.put({"n": i})
    poster.close(PATIENCE_SECONDS)
    return poster, told


def test_events_arrive_in_order_although_the_receiver_fails_first(receiver: Receiver) -> None:
    receiver.statuses = [500, 503, 429]
    poster, told = post(receiver.url, 5)
    assert receiver.accepted == [{"n": i} for i in range(5)]
    assert (poster.delivered, poster.given_up, receiver.requests, told) == (5, 0, 8, [])


def test_what_is_refused_is_not_sent_again(receiver: Receiver) -> None:
    receiver.statuses = [404, 404]
    poster, told = post(receiver.url, 3)
    assert (poster.delivered, poster.given_up, receiver.requests) == (1, 2, 3)
    assert [words.partition(": ")[2] for words in told] == [
        "HTTP status 404; an event was not delivered",
        "takes events again; 2 were not delivered",
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    poster, told = post(receiver.url, 2)
    assert (poster.delivered, poster.given_up, receiver.requests) == (1, 1, 2)
    assert receiver.accepted == [{"n": 1}]
    assert told[0].endswith(f"HTTP status {status}; an event was not delivered")


def test_any_characters_in_the_path_of_the_url(receiver: Receiver) -> None:
    poster, told = post(f"{receiver.url}/tür %C3%A9?a=ö&b=c d", 2)
    assert (poster.delivered, told) == (2, [])
    assert receiver.path == "/events/t%C3%BCr%20%C3%A9?a=%C3%B6&b=c%20d"


def test_trouble_of_any_kind_leaves_the_thread_alive(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    poster = EventPoster(receiver.url, told.append)
    answer = poster._opener.open
    monkeypatch.setattr(poster._opener, "open", lambda *a, **k: "ä".encode("ascii"))
    poster.put({"n": 0})
    until(lambda: told)
    monkeypatch.setattr(poster._opener, "open", answer)
    poster.put({"n": 1})
    poster.close(PATIENCE_SECONDS)
    assert (poster.delivered, poster.given_up) == (1, 1)


def test_a_receiver_that_is_down_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_poster, "QUEUE_EVENTS", 10)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        poster, told = post(f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/", 200)
    assert (poster.delivered, poster.given_up) == (0, 200)
    (words,) = told
    assert "refused" in words
    assert "secret" not in words


def test_a_password_in_the_url_becomes_a_header(receiver: Receiver) -> None:
    poster, _ = post(receiver.url.replace("//", "//door:p%40ss@"), 1)
    assert poster.delivered == 1
    assert receiver.authorization == "Basic " + base64.b64encode(b"door:p@ss").decode()


def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    monkeypatch.setattr(event_poster, "FIRST_PAUSE_SECONDS", 3600.0)
    receiver.statuses = [500] * 100
    poster = EventPoster(receiver.url, lambda words: None)
    for i in range(3):
        poster.put({"n": i})
    until(lambda: receiver.requests == 1)
    poster.close(0.3)
    assert (poster.delivered, poster.given_up) == (0, 3)


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
        EventPoster(url, print)
    assert "secret" not in str(caught.value)
    assert "user" not in str(caught.value)


def test_secrets_in_the_query_are_not_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        _, told = post(f"http://127.0.0.1:{taken.getsockname()[1]}/e?token=secret", 1)
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
