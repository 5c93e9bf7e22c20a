"""Logging in to the console: a page of its own, without scripts, that posts an API key or a token; and logging out."""

from collections.abc import Callable
from html import escape
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response

from oneglance.client.errors import OneglanceError, UnauthenticatedError
from oneglance_apps.console.sessions import Session, Sessions
from oneglance_apps.console.words import LANGUAGE_COOKIE, Words, choose_language

LOGIN, LOGOUT = "/login", "/logout"
_MOST_BYTES = 32 << 10  # of a form: a token may be long
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_PAGE = """<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><title>oneglance: {log_in}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 20vh auto; padding: 0 1rem; color: #1d2b30 }}
input, button {{ font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin: .25rem 0 }}
.refusal {{ color: #a4262c }}
</style></head><body>
<main><h1>oneglance</h1>
<form method="post" action="{login}">
<label for="key">{label}</label>
<input id="key" name="key" type="password" autocomplete="off" spellcheck="false" required autofocus>
<button>{log_in}</button>
</form>
<p class="refusal" role="alert">{refusal}</p></main>
</body></html>
"""


def cookie_name(port: int) -> str:
    """Browsers send cookies to all ports of a host: each console has its own."""
    return f"oneglance-session-{port}"


def words_for(request: Request) -> Words:
    """In the language that was chosen in this browser, or that it asks for."""
    return choose_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))


def login_page(say: Words, refusal: str = "", status: int = 200) -> Response:
    # With no referrer at all a browser would post the form from the origin "null".
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
    texts = {"refusal": refusal, "log_in": say("login.log_in"), "label": say("login.key")}
    escaped = {name: escape(text) for name, text in texts.items()}
    content = _PAGE.format(login=LOGIN, lang=say.html_language, **escaped)
    return Response(content, status, headers, media_type="text/html; charset=utf-8")


def add_login(app: FastAPI, cookie: str, on_end: Callable[[Session], None]) -> None:
    """The two routes, for the Sessions in ``app.state.sessions``. ``cookie``: its name; ``on_end`` hears of a session
    that was logged out."""

    def sessions() -> Sessions:
        found: Sessions = app.state.sessions
        return found

    @app.post(LOGIN)
    async def log_in(request: Request) -> Response:
        say = words_for(request)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BYTES:
                return login_page(say, say("login.too_long"), 413)
        given = parse_qs(body.decode("ascii", "replace")).get("key", [""])[0].strip()
        try:
            secret = await sessions().log_in(given)
        except UnauthenticatedError:
            return login_page(say, say("login.not_good"), 401)
        except OneglanceError as error:
            return login_page(say, error.message or say("login.no_answer"), 502)
        except ValueError:  # nothing, characters that can't be sent, or a server without TLS beyond loopback
            return login_page(say, say("login.not_sendable"), 400)
        answer = Response(status_code=303, headers={"Location": "/"})
        secure = request.url.scheme == "https"
        answer.set_cookie(cookie, secret, httponly=True, samesite="strict", secure=secure, path="/")
        return answer

    @app.post(LOGOUT)
    async def log_out(request: Request) -> Response:
        ended = await sessions().log_out(request.cookies.get(cookie))
        if ended is not None:
            on_end(ended)
        answer = Response(status_code=204)
        answer.delete_cookie(cookie, path="/", httponly=True, samesite="strict")
        return answer
