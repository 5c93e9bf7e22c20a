"""Post events to a URL, in a thread."""

import base64
import http.client
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from oneglance.client.async_client import LOOPBACK
from oneglance_apps.urls import redacted
from oneglance_apps.watch.events import as_json

QUEUE_EVENTS = 1000
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5  # doubled after each attempt
POST_TIMEOUT_SECONDS = 5.0
RETRIED_STATUSES = (408, 425, 429)  # and every 5xx


def check_url(url: str) -> str:
    """``url``, with path and query percent-encoded where needed.

    Raises ValueError if it is no http or https URL; the message shows no secrets.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        usable = parts.scheme in ("http", "https") and host and not re.search(rb"\s", host) and parts.port != 0
    except ValueError:  # its message would show parts of the URL
        usable = False
    if not usable:
        raise ValueError(f"{redacted(url)}: not an http or https URL")
    path, query = (quote(part, safe="%/:=&?~#+!$,;'@()*[]") for part in (parts.path, parts.query))
    return parts._replace(path=path, query=query, fragment="").geturl()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send a GET without the event, and the password to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


class EventPoster:
    """Posts records to ``url`` as JSON, in order, in a thread, so that a slow receiver never delays the caller.

    A record is given up after 4 attempts, or if 1,000 others wait before it.

    url: may contain user:password@, which is sent as a header.
    warn: called (in the thread) with a message when deliveries begin to fail, and when they work again.
    delivered, given_up: how many records so far.
    """

    def __init__(self, url: str, warn: Callable[[str], None]) -> None:
        self.delivered = 0
        self._overflowed = 0
        self._failed = 0
        parts = urlsplit(check_url(url))
        self._name = redacted(url)
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._headers = {"Content-Type": "application/json", "User-Agent": "oneglance-watch"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        self._warn = warn
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_EVENTS)
        self._stop = threading.Event()
        self._troubled = False
        # Requests to this machine must not go through the environment's proxy.
        handlers = [urllib.request.ProxyHandler({})] if parts.hostname in LOOPBACK else []
        self._opener = urllib.request.build_opener(_NoRedirects, *handlers)
        self._thread = threading.Thread(target=self._work, name="post", daemon=True)
        self._thread.start()

    @property
    def given_up(self) -> int:
        return self._overflowed + self._failed

    def put(self, record: dict[str, Any]) -> None:
        """Queue a record; returns at once."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._overflowed += 1

    def close(self, seconds: float) -> None:
        """Deliver the queued records, for at most ``seconds``; the rest is given up."""
        until = time.monotonic() + seconds
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            self._stop.set()
        self._thread.join(max(0.0, until - time.monotonic()))
        self._stop.set()
        self._thread.join(1.0)
        if self._thread.is_alive():  # a request is still under way, with unknown result
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
                self._warn(
                    f"{self._name}: {problem}; an event was not delivered"
                    if problem
                    else f"{self._name}: takes events again; {self.given_up} were not delivered"
                )

    def _deliver(self, body: bytes) -> str | None:
        """None if delivered, else why not."""
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
                if error.code < 500 and error.code not in RETRIED_STATUSES:
                    break
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                problem = str(getattr(reason, "strerror", None) or reason)
        return problem or "stopped"
