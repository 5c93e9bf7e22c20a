"""A load generator in a process of its own: N calls in flight against one method, for some seconds.

Requests are serialised beforehand and answers are not parsed, so that what is measured is the server and the wire.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.message import Message

from benchmarks.report import options

IDENTIFY = "/oneglance.v1.IdentificationService/Identify"
ENCODE = "/oneglance.v1.IdentificationService/Encode"
_AGAIN_SECONDS = 0.1  # after a refused call


@dataclass(frozen=True)
class Load:
    """What one run achieved: calls per second, and the latency's median and 99th percentile in milliseconds.
    ``refused``: calls that the server was too busy for."""

    per_second: float
    p50_ms: float
    p99_ms: float
    refused: int


def drive(
    address: str,
    method: str,
    requests: Sequence[Message],
    *,
    in_flight: int,
    seconds: float,
    go_on: bool = False,
    connections: int = 1,
) -> Load:
    """Call ``method`` with the requests in turn, ``in_flight`` at a time, and measure after a short warm-up, a third as
    long.

    A refused call ends it, but with ``go_on``: then that caller waits a little before the next one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.json"
        path.write_text(json.dumps([request.SerializeToString().hex() for request in requests]))
        command = [sys.executable, "-m", "benchmarks.load", address, method, str(path), str(in_flight), str(seconds)]
        command += ["--go-on"] if go_on else []
        command += ["--connections", str(connections)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Load(**json.loads(out))


async def _drive(
    address: str, method: str, payloads: list[bytes], in_flight: int, seconds: float, go_on: bool, connections: int
) -> Load:
    warm_up_seconds = seconds / 3
    latencies: list[float] = []
    refused = 0
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as opened:
        channels = [
            await opened.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            for _ in range(connections)
        ]
        calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [one.unary_unary(method) for one in channels]
        measure_from = time.perf_counter() + warm_up_seconds
        until = measure_from + seconds

        async def worker(number: int) -> None:
            nonlocal refused
            turn, call = number, calls[number % connections]
            while (begun := time.perf_counter()) < until:
                try:
                    await call(payloads[turn % len(payloads)], timeout=60)
                except grpc.aio.AioRpcError as error:
                    if not go_on or error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                    refused += 1
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
                turn += in_flight
                # By when it ended: calls under way at either end of the window make up for each other.
                if measure_from <= (ended := time.perf_counter()) < until:
                    latencies.append(ended - begun)

        await asyncio.gather(*(worker(number) for number in range(in_flight)))
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3 if latencies else (np.inf, np.inf)
    return Load(len(latencies) / seconds, float(p50), float(p99), refused)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("method", help="its path, as /oneglance.v1.IdentificationService/Identify")
    parser.add_argument("requests", type=Path, help="a file of JSON: a list of messages in hexadecimal")
    parser.add_argument("in_flight", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--go-on", action="store_true")
    parser.add_argument("--connections", type=int, default=1)
    given = parser.parse_args()
    payloads = [bytes.fromhex(text) for text in json.loads(given.requests.read_text())]
    how = given.in_flight, given.seconds, given.go_on, given.connections
    run = _drive(given.address, given.method, payloads, *how)
    print(json.dumps(vars(asyncio.run(run))))
