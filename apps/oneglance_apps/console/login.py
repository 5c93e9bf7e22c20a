"""Logging in to the console: a page of its own, without scripts, that posts an API key or a token; and logging out."""

from collections.abc import Callable
from html import escape
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response

from oneglance.client.errors import OneglanceError, UnauthenticatedError
from oneglance_apps.console.sessions import Session, Sessions

LOGIN, LOGOUT = "/login", "/logout"
_MOST_BYTES = 32 << 10  # of a form: a token may be long
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>oneglance: log in</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 20vh auto; padding: 0 1rem; color: #1d2b30 }}
input, button {{ font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin: .25rem 0 }}
.refusal {{ color: #a4262c }}
</style></head><body>
<h1>oneglance</h1>
<form method="post" action="{login}">
<label for="key">API key or token</label>
<input id="key" name="key" type="password" autocomplete="off" spellcheck="false" required autofocus>
<button>Log in</button>
</form>
<p class="refusal" role="alert">{refusal}</p>
</body></html>
"""


def cookie_name(port: int) -> str:
    """Browsers send cookies to all ports of a host: each console has its own."""
    return f"oneglance-session-{port}"


def login_page(refusal: str = "", status: int = 200) -> Response:
    # With no referrer at all a browser would post the form from the origin "null".
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
    content = _PAGE.format(login=LOGIN, refusal=escape(refusal))
    return Response(content, status, headers, media_type="text/html; charset=utf-8")


def add_login(app: FastAPI, sessions: Sessions, cookie: str, on_end: Callable[[Session], None]) -> None:
    """The two routes. ``cookie``: its name; ``on_end`` hears of a session that was logged out."""

    @app.post(LOGIN)
    async def log_in(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BYTES:
                return login_page("That is too long.", 413)
        given = parse_qs(body.decode("ascii", "replace")).get("key", [""])[0].strip()
        try:
            secret = await sessions.log_in(given)
        except UnauthenticatedError:
            return login_page("This key or token is not good: unknown, revoked or over.", 401)
        except OneglanceError as error:
            return login_page(error.message or "The server doesn't answer.", 502)
        except ValueError:  # characters that can't be sent, or a server without TLS beyond loopback
            return login_page("This key or token can't be sent to the server.", 400)
        answer = Response(status_code=303, headers={"Location": "/"})
        secure = request.url.scheme == "https"
        answer.set_cookie(cookie, secret, httponly=True, samesite="strict", secure=secure, path="/")
        return answer

    @app.post(LOGOUT)
    async def log_out(request: Request) -> Response:
        ended = await sessions.log_out(request.cookies.get(cookie))
        if ended is not None:
            on_end(ended)
        answer = Response(status_code=204)
        answer.delete_cookie(cookie, path="/", httponly=True, samesite="strict")
        return answer
