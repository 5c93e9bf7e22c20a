"""URLs without the secrets in them."""

import re


def redacted(url: str) -> str:
    """``url`` for messages: without user and password, and with ``***`` for query and fragment, which may hold a token.

    Never fails. A password may hold any character, so everything up to the last @ is left out, even if the URL means
    something else.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    secret, at, rest = rest.rpartition("@")
    place, *query = re.split(r"[?#]", rest, maxsplit=1)
    hidden = "***@" if at and re.search(r"[/?#]", secret) else ""
    return f"{scheme}{separator}{hidden}{place}{'?***' if query else ''}"
