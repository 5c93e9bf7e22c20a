"""The sheet: which machines would do, and what they take."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from oneglance_apps.planning import costs
from oneglance_apps.planning.costs import Scanner
from oneglance_apps.planning.queueing import Waited, simulate, simulate_behind

CORES = tuple(2**i for i in range(1, 9))
_MORE_NODES = (1, 2, 3, 4, 6, 8, 12, 16)  # times as many as hold the rows


@dataclass(frozen=True)
class Load:
    """What is asked: `subjects` with so many `encodings` each of `dimension` numbers; `per_second` probes, that come as
    `probes` ("encodings", "drawings", "photos"); 99 of 100 of them answered within `within` seconds."""

    subjects: float
    encodings: float
    dimension: int
    per_second: float
    probes: str
    within: float

    @property
    def rows(self) -> float:
        return self.subjects * self.encodings

    @property
    def numbers(self) -> float:
        return self.rows * self.dimension


@dataclass(frozen=True)
class Sizes:
    """In bytes: what a server keeps in memory, and at most while it compacts or backs up; store and snapshot on the
    disk. The seconds of one core until the first answer."""

    memory: float
    peak: float
    disk: float
    load_seconds: float


@dataclass(frozen=True)
class Option:
    """A machine of so many cores, with a card or none, behind so many servers of SERVER_CORES or none; or a server
    with its rows at so many query nodes of a Milvus, which have so many cores together. `waited`: what becomes of the
    load there; None: it doesn't fit into the card's memory."""

    name: str
    cores: int
    waited: Waited | None
    servers: int = 0
    nodes: int = 0

    def does(self, within: float) -> bool:
        return self.waited is not None and self.waited.p99 <= within


def sizes(load: Load) -> Sizes:
    vectors = 4 * load.numbers
    memory = costs.PROCESS_BYTES + costs.CPU.row_bytes * load.numbers + costs.ROW_BYTES * load.rows
    store = vectors + costs.STORE_ROW_BYTES * load.rows
    return Sizes(memory, memory * costs.PEAK, store + vectors, vectors * costs.LOAD_CORE_SECONDS_PER_BYTE)


def options(load: Load) -> list[Option]:
    """With CPUs alone the fewest cores that do, or the most that are thought of; with a card, if one does; several
    servers, where CPUs alone want a larger machine than those are; and a Milvus, where they want much memory."""
    found = [_fewest(load, [_option(costs.CPU, load, cores) for cores in CORES])]
    for card in (costs.H200, costs.H200_HALF):
        found.append(_fewest(load, [_option(card, load, cores) for cores in CORES[2:]]))
    if found[0].cores > costs.SERVER_CORES:
        found.append(_fewest(load, [one for cores in CORES for one in _several(load, cores)]))
    if sizes(load).peak > costs.LARGE_BYTES:
        least = math.ceil(load.numbers * costs.MILVUS.row_bytes / costs.NODE_BYTES)
        found.append(_fewest(load, [_at_milvus(load, least * more) for more in _MORE_NODES]))
    return found


def _fewest(load: Load, these: list[Option]) -> Option:
    return next((one for one in these if one.does(load.within)), these[-1])


def _option(scanner: Scanner, load: Load, cores: int) -> Option:
    if scanner.memory_bytes is not None and load.numbers * scanner.row_bytes > scanner.memory_bytes:
        return Option(scanner.name, cores, None)
    service = functools.partial(service_seconds, scanner, load, cores)
    return Option(scanner.name, cores, simulate(service, load.per_second, costs.BATCH_CALLS))


def _several(load: Load, cores: int) -> list[Option]:
    """One that keeps the galleries, of so many cores, behind as few servers as can decode and encode so many probes, or
    more."""
    front = functools.partial(front_seconds, load)
    service = functools.partial(keeper_seconds, load, cores)
    least = math.ceil(load.per_second * front(costs.BATCH_CALLS) / costs.BATCH_CALLS)
    return [
        Option(costs.CPU.name, cores, simulate_behind(each, front, service, load.per_second, costs.BATCH_CALLS), each)
        for each in sorted({least + math.ceil(more * least) for more in (0, 0.1, 0.25, 0.5, 1)})
    ]


def _at_milvus(load: Load, nodes: int) -> Option:
    cores = nodes * costs.NODE_CORES
    service = functools.partial(milvus_seconds, load, cores)
    return Option(costs.MILVUS.name, cores, simulate(service, load.per_second, costs.BATCH_CALLS), nodes=nodes)


def service_seconds(scanner: Scanner, load: Load, cores: int, probes: int) -> float:
    """What so many calls, of one probe each, take that are answered together. Nothing is taken to overlap."""
    return _scan_seconds(scanner, load, cores, probes) + _input_seconds(load, cores, probes, costs.CALL_SECONDS)


def front_seconds(load: Load, probes: int) -> float:
    """What is done of them by one of several servers."""
    return _input_seconds(load, costs.SERVER_CORES, probes, costs.SERVER_CALL_SECONDS)


def keeper_seconds(load: Load, cores: int, probes: int) -> float:
    """What is left to the one that keeps the galleries."""
    calls = costs.KEEPER_CALL_SECONDS * probes + costs.BATCH_SECONDS
    return _scan_seconds(costs.CPU, load, cores, probes) + calls


def milvus_seconds(load: Load, cores: int, probes: int) -> float:
    """By so many cores of query nodes, among which the rows are divided, and a server of SERVER_CORES before them."""
    return _scan_seconds(costs.MILVUS, load, cores, probes) + front_seconds(load, probes)


def _scan_seconds(scanner: Scanner, load: Load, cores: int, probes: int) -> float:
    return scanner.scan_seconds(probes, load.numbers) / (cores / scanner.cores if scanner.cores else 1.0)


def _input_seconds(load: Load, cores: int, probes: int, call_seconds: float) -> float:
    encoding = costs.INPUT_CORE_SECONDS[load.probes] * probes / min(cores, probes)
    return encoding + call_seconds * probes + costs.BATCH_SECONDS
