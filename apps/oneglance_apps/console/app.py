"""The web server of the console: it serves pages, and receives their pictures.

A picture arrives as the raw body of a request. It is kept in memory until the page's next picture or the page's end, so
that a face can be enrolled from it; the page shows the browser's own copy. The browser fetches a stylized picture from
here. Nothing is written to disk.

Where the console has no credential of its own, and the server wants one, whoever opens the page logs in, and all that
the page does is done with the credential that was typed.
"""

import math
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from nicegui import Client, binding, ui
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from oneglance.addresses import LOOPBACK
from oneglance.client.errors import OneglanceError, UnauthenticatedError
from oneglance_apps.console.login import add_login, cookie_name, login_page, words_for
from oneglance_apps.console.own_origin import OwnOriginOnly
from oneglance_apps.console.page import EYE, Page
from oneglance_apps.console.page_state import MAX_PICTURE_BYTES
from oneglance_apps.console.sessions import Session, Sessions
from oneglance_apps.console.watch_events import WatchEvents

# NiceGUI warns on stderr when it is held up for 10 ms. On a busy machine that says nothing about this page.
binding.MAX_PROPAGATION_TIME = math.inf

RECONNECT_SECONDS = 60.0  # a page is kept so long for a browser that lost its connection, as a locked phone does


def serve(
    connection: Mapping[str, Any],
    listening: socket.socket,
    *,
    on_serving: Callable[[str], None],
    watch_events: Path | None = None,
) -> None:
    """Serve pages for a server on a listening socket, until SIGTERM or SIGINT.

    connection: how to reach the server, the arguments of AsyncClient. on_serving: called with the URL.
    watch_events: the file that ``oneglance watch --json`` writes to; None: the Watch tab has nothing to show.

    On loopback it answers only requests for a name of loopback, so that a website can't reach the console by pointing
    its own name to this address (DNS rebinding).
    """
    host, port = listening.getsockname()[:2]
    url = f"http://{_in_url(host)}:{port}"
    pages: dict[str, Page] = {}
    events = WatchEvents(watch_events) if watch_events else None
    cookie = cookie_name(port)

    def end_pages(session: Session) -> None:
        for page in [page for page in pages.values() if page.session is session]:
            page.client.delete()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sessions = app.state.sessions = Sessions(connection)  # its clients belong to this event loop

        @ui.page("/")
        async def page(client: Client, request: Request) -> None:
            session = sessions.find(request.cookies.get(cookie)) or sessions.own
            say = words_for(request)
            client.page = copy(client.page)  # of this browser: a page's language is for all who open it
            client.page.language = say.html_language
            pages[client.id] = page = Page(session, client, say, events)
            client.on_delete(lambda: pages.pop(client.id, None))
            client.on_delete(page.stylize.leave)
            await page.build()

        on_serving(url)
        try:
            yield
        finally:
            await sessions.close()

    def page_for(page_id: str, request: Request) -> Page | None:
        """The page of this id, if it is of the session that asks."""
        page, sessions = pages.get(page_id), app.state.sessions
        asking = sessions.find(request.cookies.get(cookie)) or sessions.own
        return page if page is not None and page.session is asking else None

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    add_login(app, cookie, end_pages)
    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[_in_url(host) for host in LOOPBACK])

    @app.middleware("http")
    async def own_site_only(request: Request, call_next: RequestResponseEndpoint) -> Response:
        # Every page uses memory for a minute, so other websites must not open pages.
        if request.url.path == "/" and request.headers.get("sec-fetch-site") == "cross-site":
            return Response("Open this page by its address, not from another website.\n", 403, media_type="text/plain")
        if request.url.path == "/" and await _must_log_in(app.state.sessions, request.cookies.get(cookie)):
            return login_page(words_for(request))
        return await call_next(request)

    # The id of a page is a random UUID that only its browser knows.
    @app.post("/pages/{page_id}/{event}")
    async def post(
        page_id: str,
        event: str,
        request: Request,
        person: str = "",
        mated: bool = False,
        pictures: int = 0,
        name: str = "",
        file: str = "",
        number: str = "",
    ) -> Response:
        page = page_for(page_id, request)
        if page is None:
            return Response(status_code=404)
        try:
            body = await _read(request)
        except ClientDisconnect:  # another picture was chosen, or the page was closed
            return Response(status_code=400)
        with page.client:
            if event == "photo":
                await page.look.look_at(body)
            elif event == "probe":
                await page.threshold.measure_one(body, person, mated=mated)
            elif event == "measure":
                page.threshold.begin_measure(pictures)
            elif event == "measured":
                await page.threshold.end_measure()
            elif event == "picture":
                await page.stylize.take(body, name)
            elif event == "named":
                page.look_at_next(name)
            elif event == "many":
                page.open_tab("enroll")
            elif event == "enroll":
                return JSONResponse(await page.enroll.enroll_one(body, name, file, number))
            elif event == "enrolled":
                await page.enroll.end()
            elif event == "left":
                page.stylize.leave()
        return Response(status_code=204)

    @app.get("/pages/{page_id}/subjects")
    async def subjects(page_id: str, request: Request, search: int, start: int, end: int) -> Response:
        page = page_for(page_id, request)
        found = await page.people.rows(search, start, end) if page is not None else None
        if found is None:
            return Response(status_code=404)
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    @app.get("/pages/{page_id}/stylized/{number}")
    async def stylized(page_id: str, number: int, request: Request) -> Response:
        page = page_for(page_id, request)
        result = page.stylize.result if page else None
        if page is None or result is None or number != page.stylize.number:
            return Response(status_code=404)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(result.picture.image, media_type=result.media_type, headers=headers)

    ui.run_with(
        app,
        title="oneglance",
        favicon=EYE,
        dark=None,
        tailwind=False,
        reconnect_timeout=RECONNECT_SECONDS,
        show_welcome_message=False,
    )
    config = uvicorn.Config(OwnOriginOnly(app), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


async def _must_log_in(sessions: Sessions, secret: str | None) -> bool:
    session = sessions.find(secret)
    if session is None:
        return await sessions.needed()
    try:
        await session.api.get_identity()
    except UnauthenticatedError:  # revoked, or over
        await sessions.log_out(secret)
        return True
    except OneglanceError:  # the page says it
        pass
    return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _read(request: Request) -> bytes | None:
    """The body of a request; None when it is larger than any server accepts."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_PICTURE_BYTES:
            parts.append(part)
    return b"".join(parts) if size <= MAX_PICTURE_BYTES else None
