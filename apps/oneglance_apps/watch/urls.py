"""URLs without the secrets in them."""

import re


def shown(url: str) -> str:
    """``url`` for people: without user and password, and with ``***`` for its query and fragment, which may hold a
    password or a token. Never fails. A password may hold any character: everything up to the last @ is left out, even
    where that is not what the URL means."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    secret, at, rest = rest.rpartition("@")
    place, *query = re.split(r"[?#]", rest, maxsplit=1)
    hidden = "***@" if at and re.search(r"[/?#]", secret) else ""
    return f"{scheme}{separator}{hidden}{place}{'?***' if query else ''}"
