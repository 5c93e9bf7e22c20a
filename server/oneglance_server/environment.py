"""Variables ONEGLANCE_* that nobody reads: a misspelt setting is told, and not silently left at its default."""

import difflib
import re
from collections.abc import Collection, Mapping

PREFIX = "ONEGLANCE_"
# Read by the command line (oneglance_apps), and by the commands that events run.
OTHERS = frozenset(
    PREFIX + name for name in ("SERVER", "CA", "CLIENT_CERT", "CLIENT_KEY", "TOKEN", "TOKEN_FILE", "KIND", "SUBJECT_ID")
)
# What Kubernetes sets in every pod for a service called oneglance, or oneglance-something.
_OF_SERVICES = re.compile(
    r"ONEGLANCE(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_PORT_OF_SERVICE = re.compile(r"(tcp|udp|sctp)://")


def unknown_variables(environ: Mapping[str, str], settings: Collection[str]) -> list[str]:
    """A line for each variable that is none of ``settings``, by their names; the nearest name, if one is near."""
    known = {PREFIX + name.upper() for name in settings}
    lines = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or name in OTHERS or _OF_SERVICES.fullmatch(name):
            continue
        if name.endswith("_PORT") and _PORT_OF_SERVICE.match(environ[name]):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        lines.append(f"{name} is no setting" + (f"; the nearest is {near[0]}" if near else ""))
    return lines
