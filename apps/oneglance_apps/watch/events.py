"""Events as text, as JSON, and posted to a URL."""

import base64
import http.client
import json
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from oneglance_apps.watch.appearances import Event
from oneglance_apps.watch.urls import shown

LOOPBACK = ("127.0.0.1", "localhost", "::1")
QUEUE_EVENTS = 1000
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5  # doubled after each attempt
POST_TIMEOUT_SECONDS = 5.0
AGAIN = (408, 425, 429)  # of the 4xx statuses; 5xx are tried again, too


def as_record(event: Event, gallery: str, source: str) -> dict[str, Any]:
    """The event as JSON's types; every key is there in every event (docs/watch.md)."""
    unknown = event.subject_id is None and event.nearest is not None
    box = event.box
    return {
        "kind": event.kind,
        "gallery": gallery,
        "source": source,
        "appearance": event.appearance,
        "time": event.moment.time.isoformat(timespec="milliseconds") if event.moment.time else None,
        "seconds": round(event.moment.seconds, 3),
        "frame": event.moment.frame,
        "picture": event.moment.picture,
        "subject_id": event.subject_id,
        "distance": event.distance,
        "tau": event.tau,
        "nearest": {"subject_id": event.nearest, "distance": event.distance} if unknown else None,
        "box": {"x": box.x, "y": box.y, "width": box.width, "height": box.height} if box else None,
        "frames": event.frames,
        "duration": round(event.duration, 3),
    }


def as_json(record: dict[str, Any]) -> str:
    """One line."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def as_text(event: Event) -> str:
    """One aligned line for a person."""
    moment = event.moment
    when = moment.time.isoformat(" ", "seconds") if moment.time else f"{moment.seconds:8.1f} s"
    words = [when, f"{event.kind:10}", f"{event.subject_id or 'unknown':24}"]
    if event.distance is not None:
        words.append(f"d {event.distance:.4f}")
    if event.tau is not None:
        words.append(f"tau {event.tau:.4f}")
    if event.subject_id is None and event.nearest:
        words.append(f"nearest {event.nearest}")
    if event.kind == "left":
        words.append(f"after {event.duration:.1f} s in {event.frames} frames")
    if event.box:
        words.append(f"at {event.box.x:.0f},{event.box.y:.0f} {event.box.width:.0f}x{event.box.height:.0f}")
    words.append(moment.picture or f"frame {moment.frame}")
    return "  ".join([*words, f"#{event.appearance}"])


def check_url(url: str) -> str:
    """``url`` when events can be posted there, its path and query percent-encoded where they have to be. Raises
    ValueError, which names no secrets."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        usable = parts.scheme in ("http", "https") and host and not re.search(rb"\s", host) and parts.port != 0
    except ValueError:  # its words hold pieces of the URL
        usable = False
    if not usable:
        raise ValueError(f"{shown(url)}: not an http or https URL")
    path, query = (quote(part, safe="%/:=&?~#+!$,;'@()*[]") for part in (parts.path, parts.query))
    return parts._replace(path=path, query=query, fragment="").geturl()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would follow a POST with a GET without the event, and take the password to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


class Poster:
    """Posts records to ``url`` (which may hold user:password@) as JSON, one after the other, in a thread: a receiver
    that is slow or down never holds up the caller. What can't be delivered after 4 attempts, or waits behind 1,000
    others, is given up and counted in ``given_up``; ``tell`` is called (in the thread) when trouble begins and when it
    ends."""

    def __init__(self, url: str, tell: Callable[[str], None]) -> None:
        self.delivered = 0
        self._overflowed = 0
        self._failed = 0
        parts = urlsplit(check_url(url))
        self._name = shown(url)
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._headers = {"Content-Type": "application/json", "User-Agent": "oneglance-watch"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        self._tell = tell
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_EVENTS)
        self._stop = threading.Event()
        self._troubled = False
        # The environment's proxies are not for this machine itself.
        handlers = [urllib.request.ProxyHandler({})] if parts.hostname in LOOPBACK else []
        self._opener = urllib.request.build_opener(_NoRedirects, *handlers)
        self._thread = threading.Thread(target=self._work, name="post", daemon=True)
        self._thread.start()

    @property
    def given_up(self) -> int:
        return self._overflowed + self._failed

    def put(self, record: dict[str, Any]) -> None:
        """Returns at once."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._overflowed += 1

    def close(self, seconds: float) -> None:
        """Deliver what waits, for at most ``seconds``; the rest is given up."""
        until = time.monotonic() + seconds
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            self._stop.set()
        self._thread.join(max(0.0, until - time.monotonic()))
        self._stop.set()
        self._thread.join(1.0)
        if self._thread.is_alive():  # one is still under way; nobody will know how it ends
            self._overflowed += 1
        while not self._queue.empty():
            self._overflowed += self._queue.get_nowait() is not None

    def _work(self) -> None:
        while not self._stop.is_set() and (record := self._queue.get()) is not None:
            problem = self._deliver(as_json(record).encode())
            if problem is None:
                self.delivered += 1
            else:
                self._failed += 1
            if self._troubled != (problem is not None):
                self._troubled = problem is not None
                self._tell(
                    f"{self._name}: {problem}; an event was not delivered"
                    if problem
                    else f"{self._name}: takes events again; {self.given_up} were not delivered"
                )

    def _deliver(self, body: bytes) -> str | None:
        """What went wrong in the end; None: delivered."""
        request = urllib.request.Request(self._url, body, self._headers)
        pause = FIRST_PAUSE_SECONDS
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt and self._stop.wait(pause * 2 ** (attempt - 1)):
                break
            try:
                with self._opener.open(request, timeout=POST_TIMEOUT_SECONDS):
                    return None
            except urllib.error.HTTPError as error:
                error.close()
                problem = f"HTTP status {error.code}"
                if error.code < 500 and error.code not in AGAIN:
                    break
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                problem = str(getattr(reason, "strerror", None) or reason)
        return problem or "stopped"
