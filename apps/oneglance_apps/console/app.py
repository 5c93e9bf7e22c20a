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
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from nicegui import Client, binding, ui
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from oneglance.addresses import LOOPBACK
from oneglance.client.errors import OneglanceError, UnauthenticatedError
from oneglance_apps.console.login import add_login, cookie_name, login_page
from oneglance_apps.console.own_origin import OwnOriginOnly
from oneglance_apps.console.page import EYE, Page
from oneglance_apps.console.page_state import MAX_PICTURE_BYTES
from oneglance_apps.console.sessions import Session, Sessions

# NiceGUI warns on stderr when it is held up for 10 ms. On a busy machine that says nothing about this page.
binding.MAX_PROPAGATION_TIME = math.inf

RECONNECT_SECONDS = 60.0  # a page is kept so long for a browser that lost its connection, as a locked phone does


def serve(
    connection: Mapping[str, Any],
    listening: socket.socket,
    *,
    on_serving: Callable[[str], None],
) -> None:
    """Serve pages for a server on a listening socket, until SIGTERM or SIGINT.

    connection: how to reach the server, the arguments of AsyncClient. on_serving: called with the URL.

    On loopback it answers only requests for a name of loopback, so that a website can't reach the console by pointing
    its own name to this address (DNS rebinding).
    """
    host, port = listening.getsockname()[:2]
    url = f"http://{_in_url(host)}:{port}"
    pages: dict[str, Page] = {}
    cookie = cookie_name(port)

    def end_pages(session: Session) -> None:
        for page in [page for page in pages.values() if page.session is session]:
            page.client.delete()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sessions = app.state.sessions = Sessions(connection)  # its clients belong to this event loop
        add_login(app, sessions, cookie, end_pages)

        @ui.page("/")
        async def page(client: Client, request: Request) -> None:
            session = sessions.find(request.cookies.get(cookie)) or sessions.own
            pages[client.id] = page = Page(session, client)
            client.on_delete(lambda: pages.pop(client.id, None))
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
    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[_in_url(host) for host in LOOPBACK])

    @app.middleware("http")
    async def own_site_only(request: Request, call_next: RequestResponseEndpoint) -> Response:
        # Every page uses memory for a minute, so other websites must not open pages.
        if request.url.path == "/" and request.headers.get("sec-fetch-site") == "cross-site":
            return Response("Open this page by its address, not from another website.\n", 403, media_type="text/plain")
        if request.url.path == "/" and await _must_log_in(app.state.sessions, request.cookies.get(cookie)):
            return login_page()
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
        return Response(status_code=204)

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
