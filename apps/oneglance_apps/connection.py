"""How a program of this package reaches a server: where it is, whom to trust, and who one is."""

import argparse
import os
from pathlib import Path
from typing import Any

from oneglance.client.tls import tls_credentials
from oneglance.defaults import SERVER_ADDRESS

SYSTEM = "system"


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """``--server`` and its TLS and credential; each has an environment variable."""
    group = parser.add_argument_group("the server")
    for flag, variable, metavar, text, default in (
        ("--server", "ONEGLANCE_SERVER", "HOST:PORT|unix:PATH", "where the server is", SERVER_ADDRESS),
        ("--ca", "ONEGLANCE_CA", "FILE", f"use TLS: the authority of the server's certificate, PEM; or {SYSTEM}", ""),
        ("--client-cert", "ONEGLANCE_CLIENT_CERT", "FILE", "with --ca: one's own certificate, PEM", ""),
        ("--client-key", "ONEGLANCE_CLIENT_KEY", "FILE", "its key, PEM", ""),
        ("--token-file", "ONEGLANCE_TOKEN_FILE", "FILE", "with an API key or a token, read for each call", ""),
    ):
        shown = f"[{variable}, else {default}]" if default else f"[{variable}]"
        group.add_argument(flag, metavar=metavar, default=os.environ.get(variable, default), help=f"{text} {shown}")
    group.description = "ONEGLANCE_TOKEN may hold an API key or a token, in place of --token-file."


def connection_of(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``Client`` and ``AsyncClient``. Raises OSError, ValueError."""
    if (options.client_cert or options.client_key) and not options.ca:
        raise ValueError("--client-cert and --client-key need --ca")
    found: dict[str, Any] = {"target": options.server}
    if options.ca:
        found["credentials"] = tls_credentials(
            None if options.ca == SYSTEM else options.ca, options.client_cert or None, options.client_key or None
        )
    if options.token_file:
        file = Path(options.token_file)
        file.read_text()  # raises now
        found["token"] = lambda: file.read_text().strip()
    elif token := os.environ.get("ONEGLANCE_TOKEN"):
        found["token"] = token.strip()
    return found
