"""kill -9 of a part of a real cluster, while four write and search: every answer is that of brute force in float64, or
ENGINE_UNAVAILABLE; nothing acknowledged is lost, nothing deleted comes back."""

import contextlib
import itertools
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import EngineUnavailable, Found, LocalGalleries, Search
from oneglance_index.search.milvus import engine as engines
from tests.index.milvus.brute_force import Row, nearest
from tests.index.milvus.engine import Cluster

ROUNDS = int(os.environ.get("ONEGLANCE_MILVUS_ROUNDS", "2"))
CALLERS, DIMENSION, FIRST_ROWS = 4, 8, 150
MANY_SEGMENTS = 8
OPEN_WITNESSES = 4  # no more are in segments that aren't sealed
APART = 1000.0  # of two callers' places: each knows all that is near its own
REACH = 10_000.0


class Caller(threading.Thread):
    """Enrolls, deletes and searches in a place of its own, where it knows what every answer must be."""

    def __init__(self, galleries: LocalGalleries, number: int, ended: threading.Event, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.galleries, self.number, self._ended = galleries, number, ended
        self.random = np.random.default_rng(number)
        self.rows: list[Row] = []  # those that must be there, the oldest first
        self.acknowledged = 0
        self.answered: list[float] = []  # when each right answer came
        self.failure: BaseException | None = None

    def somewhere(self) -> NDArray[np.float32]:
        place = np.zeros(DIMENSION, np.float32)
        place[0] = APART * (self.number + 1)
        return place + self.random.standard_normal(DIMENSION, dtype=np.float32)

    def enroll(self, name: str) -> None:
        row = (f"{self.number}-{name}", self.somewhere())
        self.galleries.enroll("g", row[0], row[1][None]).result()
        self.rows.append(row)
        self.acknowledged += 1

    def delete(self) -> None:
        subject, _ = self.rows[int(self.random.integers(len(self.rows)))]
        self.galleries.delete_subject("g", subject).result()
        self.rows = [row for row in self.rows if row[0] != subject]
        self.acknowledged += 1

    def search(self, probes: NDArray[np.float32]) -> None:
        """Raises AssertionError for a wrong answer, and EngineUnavailable."""
        (found,) = self.galleries.search_many("g", [Search(probes, "e", 5, REACH, 10_000)])
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Found)
        for probe, candidates, matches in zip(probes, found.candidates, found.matches, strict=True):
            expected = nearest(self.rows, probe)
            told = {one.subject_id for one in matches}
            rows = {subject for subject, _ in expected}
            assert not rows - told, f"{len(rows - told)} of {len(rows)} are missing, as {sorted(rows - told)[:20]}"
            assert [(one.subject_id, one.distance) for one in candidates] == expected[:5]
            assert [one.subject_id for one in matches] == [subject for subject, _ in expected]
        self.answered.append(time.monotonic())

    def run(self) -> None:
        try:
            for turn in itertools.count():
                if self._ended.is_set():
                    return
                self.enroll(f"{turn}")
                if turn % 3 == 2:
                    self.delete()
                probes = np.stack([self.somewhere(), self.rows[-1][1]])
                try:
                    self.search(probes)
                except EngineUnavailable:
                    self._ended.wait(0.05)
        except BaseException as failure:
            if isinstance(failure, AssertionError):
                failure.add_note(found_now(self.galleries, self.cluster))
            self.failure = failure


@dataclass(frozen=True)
class Death:
    """Of a role; `many`: while sealed segments are many, divided among the query nodes, else few."""

    role: str
    replicas: int = 1
    act: str = "kill"
    many: bool = False

    def __str__(self) -> str:
        return f"{self.role}-{self.replicas}{'-stopped' * (self.act == 'stop')}{'-many' * self.many}"


DEATHS = (
    Death("querynode", 1),
    Death("querynode", 2),
    Death("querynode", 1, many=True),
    Death("querynode", 2, many=True),
    Death("querynode", 1, "stop", many=True),
    Death("datanode"),
    Death("proxy"),
)


@pytest.mark.timeout(1200 + 300 * ROUNDS)
@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_no_answer_is_wrong_while_a_part_is_killed(
    tmp_path: Path,
    empty_cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    death: Death,
) -> None:
    device = f"{empty_cluster.url()}?replicas={death.replicas}"
    ended = threading.Event()
    without: list[float] = []
    divided: list[list[int]] = []
    thrown_away = note_incomplete(monkeypatch)
    if death.many:
        monkeypatch.setattr(engines.Engine, "compact", engines.Engine.seal)
    with LocalGalleries.open(tmp_path, device=device) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        callers = [Caller(galleries, number, ended, empty_cluster) for number in range(CALLERS)]
        for caller in callers:
            for i in range(FIRST_ROWS):
                caller.enroll(f"first-{i}")
        if not death.many:
            galleries.compact("g")  # they are sealed
        for caller in callers:
            caller.start()
        try:
            for round_ in range(ROUNDS):
                seen = [len(caller.answered) for caller in callers]
                await_answers(callers, seen, random.randint(2, 20))
                role = f"querynode-{round_ % 2 + 1}" if death.role == "querynode" else death.role
                if death.many:
                    await_many(empty_cluster, galleries, callers)
                divided.append(segments_by_node(empty_cluster))
                before = time.monotonic()
                empty_cluster.tell(death.act, role)
                if death.role == "querynode" and death.replicas == 1:  # the other one takes over
                    await_answers(callers, [len(caller.answered) for caller in callers], 2)
                empty_cluster.tell("start", role)
                await_answers(callers, [len(caller.answered) for caller in callers], 20)
                without.append(longest_gap(callers, before))
                if not death.many:
                    galleries.compact("g")
                elif round_ % 5 == 4:
                    merge(empty_cluster)
        finally:
            ended.set()
            for caller in callers:
                caller.join()
        check(callers)
        final(galleries, callers)
    with LocalGalleries.open(tmp_path, device=device) as galleries:
        final(galleries, callers)
    with LocalGalleries.open(tmp_path) as galleries:
        final(galleries, callers)
    acknowledged = sum(caller.acknowledged for caller in callers)
    answers = sum(len(caller.answered) for caller in callers)
    with capsys.disabled():
        print(
            f"\n{death}: {ROUNDS} times; {acknowledged} acknowledged writes, none lost; {answers} answers, all right;"
        )
        in_part = sum(witnesses > OPEN_WITNESSES for witnesses in thrown_away)
        print(f"{len(thrown_away)} thrown away, {in_part} of them with some sealed rows;", end=" ")
        print(f"sealed segments by query node: {divided};")
        print(f"seconds without any: median {statistics.median(without):.1f}, worst {max(without):.1f}")


def note_incomplete(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each answer that Engine throws away, from here on, how many witnesses it has."""
    thrown_away: list[int] = []

    class Counted(engines._Incomplete):
        def __init__(self, witnesses: int) -> None:
            super().__init__(witnesses)
            thrown_away.append(witnesses)

    monkeypatch.setattr(engines, "_Incomplete", Counted)
    return thrown_away


@contextlib.contextmanager
def client_of(cluster: Cluster) -> Iterator[Any]:
    from pymilvus import MilvusClient

    client = MilvusClient(uri=f"http://127.0.0.1:{cluster.port}")
    yield client
    client.close()


def found_now(galleries: LocalGalleries, cluster: Cluster) -> str:
    """For some seconds, behind a wrong answer: what a query and a search find, and lack of what must be there."""
    index: Any = galleries._find("g").in_step()
    vouching, lines = index._engine._witnesses[index._collection.name], []
    with client_of(cluster) as client:
        for _ in range(10):
            found = f"witnesses to {vouching.last}, {vouching.told}, open {vouching._open}: "
            whole: dict[str, Any] = {"consistency_level": "Strong", "limit": engines.MOST_ROWS, "timeout": 5}
            try:
                name = index._collection.name
                rows = client.query(name, filter="number > -1000", output_fields=["number"], **whole)
                near = client.search(
                    name, data=[[0.0] * DIMENSION], anns_field="vector", output_fields=["number"], **whole
                )
                sets = {one["number"] for one in rows}, {one["entity"]["number"] for one in near[0]}
                with index._lock:
                    held = {number for number in range(max(sets[0]) + 1) if number in index._held} - index._here.keys()
                for how, numbers in zip(("query", "search"), sets, strict=True):
                    lacks = sorted(held - numbers)
                    found += f"{how} lacks {len(lacks)} of {len(held)}, {lacks[:9]}, has {sorted(numbers)[:9]}; "
                segments = client.list_persistent_segments(name)
                found += f"segments {sorted((one.segment_id, one.num_rows) for one in segments)}"
            except Exception as error:
                found += str(error)[:150]
            lines.append(found)
            time.sleep(1)
    return "\n".join(lines)


def segments_by_node(cluster: Cluster) -> list[int]:
    """How many sealed segments each query node has that has any."""
    with client_of(cluster) as client:
        names = client.list_collections()  # one, once it is made
        told = [one for name in names for one in client._get_connection().get_query_segment_info(name)]
    return sorted(Counter(node for one in told for node in one.nodeIds).values())


def merge(cluster: Cluster) -> None:
    """Has Milvus make few segments of many."""
    with client_of(cluster) as client:
        client.compact(client.list_collections()[0])


def await_many(cluster: Cluster, galleries: LocalGalleries, callers: list[Caller]) -> None:
    """Returns once sealed segments are many, and divided among two query nodes."""
    while len(there := segments_by_node(cluster)) < 2 or sum(there) < MANY_SEGMENTS:
        check(callers)
        if sum(there) < MANY_SEGMENTS:
            galleries.compact("g")  # seals
        time.sleep(0.5)


def check(callers: list[Caller]) -> None:
    for caller in callers:
        if caller.failure is not None:
            raise caller.failure


def await_answers(callers: list[Caller], seen: list[int], more: int) -> None:
    """Returns once each caller has had so many more answers."""
    while any(len(caller.answered) < had + more for caller, had in zip(callers, seen, strict=True)):
        check(callers)
        time.sleep(0.05)


def longest_gap(callers: list[Caller], since: float) -> float:
    """The longest time in which nobody had an answer."""
    times = sorted(at for caller in callers for at in caller.answered if at >= since)
    return max(later - earlier for earlier, later in itertools.pairwise([since, *times]))


def final(galleries: LocalGalleries, callers: list[Caller]) -> None:
    """All that must be there is, and nothing else."""
    for caller in callers:
        caller.galleries = galleries
        probes = np.stack([vector for _, vector in caller.rows[-50:]])
        while True:
            with contextlib.suppress(EngineUnavailable):
                caller.search(probes)
                break
    assert set(galleries.subject_ids("g")) == {subject for caller in callers for subject, _ in caller.rows}
