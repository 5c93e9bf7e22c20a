"""The console: a web page to look at and work with. A client of the server like any other: all it knows comes over
oneglance.v1.

A photo is posted to it as the raw body of a request, read into memory, and kept until the page's next one or its end,
so that a face can be enrolled from it; the page shows the browser's own copy. So is a picture that is repainted, with
what became of it, which the browser fetches from here. Nothing is written to disk.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from nicegui import Client, ui
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from oneglance.client.async_client import LOOPBACK, AsyncClient
from oneglance_apps.console.page import EYE, Page
from oneglance_apps.console.page_state import MAX_PICTURE_BYTES

# A phone that was locked for a moment finds its page as it left it.
RECONNECT_SECONDS = 60.0
PAINTING_SECONDS = 900.0  # a picture of many tiles takes its time


def serve(server: str, listening: socket.socket, *, own_host_only: bool, on_serving: Callable[[str], None]) -> None:
    """Serve pages for the server at ``server`` on a listening socket, until SIGTERM or SIGINT.

    ``own_host_only``: answer only requests for a loopback name, so that no website can pass for this one by pointing
    its own name here. ``on_serving`` is told the URL.
    """
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    pages: dict[str, Page] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncClient(server) as api, AsyncClient(server, timeout_seconds=PAINTING_SECONDS) as painter:

            @ui.page("/")
            async def page(client: Client) -> None:
                pages[client.id] = page = Page(api, painter, client)
                client.on_delete(lambda: pages.pop(client.id, None))
                await page.build()

            on_serving(url)
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if own_host_only:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[f"[{h}]" if ":" in h else h for h in LOOPBACK])

    @app.middleware("http")
    async def own_site_only(request: Request, call_next: RequestResponseEndpoint) -> Response:
        # Every page takes memory for a minute: other websites may not make them.
        if request.url.path == "/" and request.headers.get("sec-fetch-site") == "cross-site":
            return Response("Open this page by its address, not from another website.\n", 403, media_type="text/plain")
        return await call_next(request)

    # A page's id is a random UUID that only its own browser was told.
    @app.post("/pages/{page_id}/{what}")
    async def post(
        page_id: str,
        what: str,
        request: Request,
        person: str = "",
        mated: bool = False,
        pictures: int = 0,
        name: str = "",
    ) -> Response:
        page = pages.get(page_id)
        if page is None:
            return Response(status_code=404)
        try:
            body = await _read(request)
        except ClientDisconnect:  # another picture was chosen, or the page was closed
            return Response(status_code=400)
        with page.client:
            if what == "photo":
                await page.look.look_at(body)
            elif what == "probe":
                await page.threshold.measure_one(body, person, mated=mated)
            elif what == "measure":
                page.threshold.begin_measure(pictures)
            elif what == "measured":
                await page.threshold.end_measure()
            elif what == "picture":
                await page.stylize.take(body, name)
        return Response(status_code=204)

    @app.get("/pages/{page_id}/stylized/{number}")
    async def stylized(page_id: str, number: int) -> Response:
        page = pages.get(page_id)
        painted = page.stylize.painted if page else None
        if page is None or painted is None or number != page.stylize.number:
            return Response(status_code=404)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(painted.picture.image, media_type=painted.media_type, headers=headers)

    ui.run_with(
        app,
        title="oneglance",
        favicon=EYE,
        dark=None,
        tailwind=False,
        reconnect_timeout=RECONNECT_SECONDS,
        show_welcome_message=False,
    )
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


async def _read(request: Request) -> bytes | None:
    """The body, in memory; None when it is larger than any server takes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_PICTURE_BYTES:
            parts.append(part)
    return b"".join(parts) if size <= MAX_PICTURE_BYTES else None
