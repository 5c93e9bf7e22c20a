"""An output that posts each event to a URL, as JSON."""

import asyncio
import base64
import os
import re
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import yarl

from oneglance.addresses import LOOPBACK
from oneglance_apps.urls import redacted
from oneglance_apps.watch.outbox import NoAnswer, NotReached, NotTaken, Refused
from oneglance_apps.watch.records import Record

TRIED_AGAIN = (408, 425, 429)  # and every 5xx


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


class Webhook:
    """Posts events to ``url``, over a new connection each.

    url: may contain user:password@, which is sent as a header. Redirects are not followed.

    While an earlier event has no answer, the receiver is first asked for the headers of the URL (HEAD), and gets an
    event
    only when it answers that: one that hangs would otherwise find old events waiting in its socket when it wakes.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(check_url(url))
        self.name = redacted(url)
        self._url = yarl.URL(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), encoded=True)
        self._headers = {"Content-Type": "application/json", "User-Agent": "oneglance-watch"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        # Requests to this machine must not go through the environment's proxy.
        self._trust_env = parts.hostname not in LOOPBACK
        self._session: aiohttp.ClientSession | None = None
        self._unanswered = 0
        self._hung = False

    async def send(self, record: Record, left: float) -> None:
        if self._hung or self._unanswered:
            await self._ask(left)
        self._unanswered += 1
        try:
            status = await self._post(record.model_dump_json().encode(), left)
        except (asyncio.CancelledError, NoAnswer):
            self._hung = True
            raise
        finally:
            self._unanswered -= 1
        self._hung = False
        if 200 <= status < 300:
            return
        problem = f"HTTP status {status}"
        raise NotTaken(problem) if status >= 500 or status in TRIED_AGAIN else Refused(problem)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes, left: float) -> int:
        # The outbox limits how long an answer may take.
        limits = aiohttp.ClientTimeout(total=None, connect=left)
        try:
            async with self._connected().post(
                self._url, data=body, headers=self._headers, allow_redirects=False, timeout=limits
            ) as answer:
                return answer.status
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotReached(_words(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(_words(error)) from error

    async def _ask(self, left: float) -> None:
        limits = aiohttp.ClientTimeout(total=left)
        try:
            async with self._connected().head(self._url, headers=self._headers, allow_redirects=False, timeout=limits):
                self._hung = False
        except asyncio.CancelledError:  # the outbox waits no longer, and nothing was sent
            raise NotReached("it does not answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # OSError: TimeoutError, too
            raise NotReached(f"it does not answer: {_words(error)}") from error

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A connection that is used again may just have been closed by the other side: then nobody knows whether
            # the event was taken.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=self._trust_env)
        return self._session


def _words(error: Exception) -> str:
    """The reason without the URL, which may hold secrets."""
    if isinstance(error, TimeoutError):
        return "no connection in time" if isinstance(error, aiohttp.ConnectionTimeoutError) else "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else type(error).__name__
