"""What it costs to know who calls and to tell of it: a server without, with an audit trail, with one that fails closed,
with a policy, and with a policy and TLS, in one run; those with a policy have the audit trail, too.

    python -m benchmarks.access [--calls 500]

Each call is made to each server in turn: identify against 1,000 subjects, enroll; both by encodings.
Says the medians, in ms, and how many times those of the server without either. The policy has 1,000 grants.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oneglance import Client, encoding, enroll_request, tls_credentials
from tests.models import signal_model
from tests.running import ServerProcess
from tests.server.access.callers import ADMIN, grant, key_of
from tests.server.access.test_tls import Authority

SUBJECTS, DIMENSION, GRANTS = 1000, 12, 1000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=500, help="to each server [500]")
    calls: int = parser.parse_args(arguments).calls
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        clients = {what: stack.enter_context(client) for what, client in servers(folder, stack).items()}
        digest = filled(clients)
        rng = np.random.default_rng(1)

        def example() -> object:
            return encoding(rng.standard_normal(DIMENSION).astype(np.float32), digest)

        kinds: dict[str, Callable[[Client, int], object]] = {
            "identify": lambda client, _: client.identify("g", example()),  # type: ignore[arg-type]
            "enroll": lambda client, i: client.enroll("g", f"new-{i}", example()),  # type: ignore[arg-type]
        }
        for kind, call in kinds.items():
            took: dict[str, list[float]] = {what: [] for what in clients}
            for i in range(calls):
                for what, client in clients.items():
                    begun = time.perf_counter()
                    call(client, i)
                    took[what].append(1e3 * (time.perf_counter() - begun))
            usual = statistics.median(took["plain"])
            for what, times in took.items():
                print(
                    f"{kind:9} {what:12} {statistics.median(times):7.3f} ms  x {statistics.median(times) / usual:.3f}"
                )
    return 0


def servers(folder: Path, stack: contextlib.ExitStack) -> dict[str, Client]:
    model = signal_model(folder / "model")
    policy = folder / "policy.toml"
    policy.write_text("".join(grant([f"key:k{i}"], [f"g{i}"], ["identify"]) for i in range(GRANTS - 1)) + ADMIN)
    authority = Authority(folder, "ours")
    certificate, key = authority.sign("server", "localhost")
    found = {}
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"audit": "off"},
        "audit": {},
        "fail-closed": {"audit": "fail-closed"},
        "policy": {"policy": policy},
        "policy, TLS": {"policy": policy, "tls_cert": certificate, "tls_key": key},
    }
    for what, settings in kinds.items():
        token = key_of(folder / what, "admin") if "policy" in settings else None
        server = stack.enter_context(ServerProcess(folder / what, models=model, **settings))
        if "tls_cert" in settings:
            address = f"localhost:{server.address.rpartition(':')[2]}"
            found[what] = Client(address, token=token, credentials=tls_credentials(authority.ca))
        else:
            found[what] = Client(server.address, token=token)
    return found


def filled(clients: dict[str, Client]) -> str:
    """The gallery ``g`` of each; the digest of its encoder."""
    digest = ""
    for client in clients.values():
        digest = client.create_gallery("g").encoder_digest
        client.set_doubt_policy("g", "off")
        client.set_threshold("g", 0.1)
        points = np.random.default_rng(0).standard_normal((SUBJECTS, DIMENSION)).astype(np.float32)
        requests = (enroll_request("g", f"s{i}", [encoding(row, digest)]) for i, row in enumerate(points))
        for answer in client.bulk_enroll(requests):
            assert answer.HasField("enrolled")
    return digest


if __name__ == "__main__":
    sys.exit(main())
