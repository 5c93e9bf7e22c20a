"""Who is logged in to the console: by an API key or a token that was typed, kept in memory only."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import OneglanceError

IDLE_SECONDS = 8 * 3600.0
MOST_SESSIONS = 256
PAINTING_SECONDS = 900.0  # timeout of a stylization; a picture of many tiles takes long
_ASKING_SECONDS = 5.0


@dataclass(eq=False)
class Session:
    """Clients of the server with one credential: ``api`` for short calls, ``painter`` with a long timeout. ``name``: of
    who logged in; empty where nobody did, and the console's own credential is used."""

    api: AsyncClient
    painter: AsyncClient
    name: str = ""
    used: float = field(default=0.0)

    async def close(self) -> None:
        await self.api.close()
        await self.painter.close()


class Sessions:
    """The sessions of one console, by the secret that a browser's cookie has.

    connection: how to reach the server, the arguments of AsyncClient. ``own`` is the session of whoever needn't log in.
    """

    def __init__(self, connection: Mapping[str, Any], now: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._now = now
        self._sessions: dict[str, Session] = {}
        self.own = self._new()

    async def needed(self) -> bool:
        """Whether one has to log in: the server knows callers, and grants nothing to one without a credential."""
        if "token" in self._connection:
            return False
        try:
            async with asyncio.timeout(_ASKING_SECONDS):
                identity = await self.own.api.get_identity()
        except (OneglanceError, TimeoutError):  # it knows no callers, or can't be asked: the page says so
            return False
        return not identity.grants and identity.name == "anonymous"

    async def log_in(self, credential: str) -> str:
        """The secret for the browser's cookie. Raises OneglanceError, ValueError for a credential that isn't good."""
        session = self._new(token=credential)
        try:
            session.name = (await session.api.get_identity()).name
        except BaseException:
            await session.close()
            raise
        secret = secrets.token_urlsafe(32)
        session.used = self._now()
        self._sessions[secret] = session
        while len(self._sessions) > MOST_SESSIONS:
            await self.log_out(min(self._sessions, key=lambda one: self._sessions[one].used))
        return secret

    def find(self, secret: str | None) -> Session | None:
        """The session of this secret, unless it was left idle for long."""
        session = self._sessions.get(secret) if secret else None
        if session is None or self._now() - session.used > IDLE_SECONDS:
            return None
        session.used = self._now()
        return session

    async def log_out(self, secret: str | None) -> Session | None:
        """Ends the session; calls that are made with it fail from now on."""
        session = self._sessions.pop(secret, None) if secret else None
        if session is not None:
            await session.close()
        return session

    async def close(self) -> None:
        for session in (self.own, *self._sessions.values()):
            await session.close()
        self._sessions.clear()

    def _new(self, **more: Any) -> Session:
        connection = {**self._connection, **more}
        return Session(AsyncClient(**connection), AsyncClient(**connection, timeout_seconds=PAINTING_SECONDS))
