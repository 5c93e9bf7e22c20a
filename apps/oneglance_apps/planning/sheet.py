"""The sheet: which machines would do, and what they take."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from oneglance_apps.planning import costs
from oneglance_apps.planning.costs import Scanner
from oneglance_apps.planning.queueing import Waited, simulate

CORES = tuple(2**i for i in range(1, 9))


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
    """A machine of so many cores, with a card or none. `waited`: what becomes of the load there; None: it doesn't fit
    into the card's memory."""

    name: str
    cores: int
    waited: Waited | None

    def does(self, within: float) -> bool:
        return self.waited is not None and self.waited.p99 <= within


def sizes(load: Load) -> Sizes:
    vectors = 4 * load.numbers
    memory = costs.PROCESS_BYTES + costs.CPU.row_bytes * load.numbers + costs.ROW_BYTES * load.rows
    store = vectors + costs.STORE_ROW_BYTES * load.rows
    return Sizes(memory, memory * costs.PEAK, store + vectors, vectors * costs.LOAD_CORE_SECONDS_PER_BYTE)


def options(load: Load) -> list[Option]:
    """With CPUs alone the fewest cores that do, or the most that are thought of; and with a card, if one does."""
    by_cpu = (_option(costs.CPU, load, cores) for cores in CORES)
    found = [next((one for one in by_cpu if one.does(load.within)), _option(costs.CPU, load, CORES[-1]))]
    for card in (costs.H200, costs.H200_HALF):
        by_card = [_option(card, load, cores) for cores in CORES[2:]]
        found.append(next((one for one in by_card if one.does(load.within)), by_card[-1]))
    return found


def _option(scanner: Scanner, load: Load, cores: int) -> Option:
    if scanner.memory_bytes is not None and load.numbers * scanner.row_bytes > scanner.memory_bytes:
        return Option(scanner.name, cores, None)
    service = functools.partial(service_seconds, scanner, load, cores)
    return Option(scanner.name, cores, simulate(service, load.per_second, costs.BATCH_CALLS))


def service_seconds(scanner: Scanner, load: Load, cores: int, probes: int) -> float:
    """What so many calls, of one probe each, take that are answered together. Nothing is taken to overlap."""
    faster = cores / scanner.cores if scanner.cores else 1.0
    encoding = costs.INPUT_CORE_SECONDS[load.probes] * probes / min(cores, probes)
    calls = costs.CALL_SECONDS * probes + costs.BATCH_SECONDS
    return scanner.scan_seconds(probes, load.numbers) / faster + encoding + calls
