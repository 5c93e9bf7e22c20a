"""kill -9 of this side, and of Milvus, at any moment: nothing acknowledged is lost, nothing deleted comes back."""

import contextlib
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import EngineUnavailable, Found, LocalGalleries, Search
from tests.index.milvus.engine import Engine
from tests.index.milvus.killed_child import DIMENSION, vector_of

pymilvus: Any = pytest.importorskip("pymilvus")
ROUNDS = int(os.environ.get("ONEGLANCE_MILVUS_ROUNDS", "3"))
MOST = 10_000  # candidates that are told
LONG = pytest.mark.timeout(1200 + 120 * ROUNDS)


def enrolled(galleries: LocalGalleries) -> list[str]:
    return galleries.subject_ids("g")


def check(galleries: LocalGalleries, names: list[str], gone: set[str]) -> None:
    """Each of `names` is found at distance 0, and with the last one all others, and none of `gone`."""
    for start in range(0, len(names), 100):
        some = names[start : start + 100]
        probes = np.concatenate([vector_of(name) for name in some])
        (found,) = galleries.search_many("g", [Search(probes, "e", 1)])
        assert isinstance(found, Found)
        for name, near in zip(some, found.candidates, strict=True):
            assert (near[0].subject_id, near[0].distance) == (name, 0.0)
    (found,) = galleries.search_many("g", [Search(vector_of(names[-1]), "e", 1, 1e9, MOST)])
    assert isinstance(found, Found)
    within = {one.subject_id for one in found.matches[0]}
    assert within <= set(names)
    assert len(within) == min(MOST, len(names))
    assert not gone & within


@LONG
def test_a_killed_server_comes_out_whole(tmp_path: Path, empty: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
    alive: set[str] = set()
    gone: set[str] = set()
    acknowledged = 0
    for round_ in range(ROUNDS):
        program = [sys.executable, "-m", "tests.index.milvus.killed_child", str(tmp_path), empty.url(), f"r{round_}"]
        child = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        unsure = ""
        most = random.randint(20, 300)
        for count, line in enumerate(child.stdout):
            if count == most:
                child.kill()
            told, act, name = line.split()
            unsure = name if told == "try" else ""
            if told == "ok":
                acknowledged += 1
                (alive.add if act == "enroll" else alive.discard)(name)
                (gone.add if act == "delete" else gone.discard)(name)
        child.wait()
        child.stdout.close()
        with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
            now = set(enrolled(galleries))
            assert now - {unsure} == alive - {unsure}
            alive = now
            gone -= now
            check(galleries, sorted(alive), gone)
    with capsys.disabled():
        print(f"\n{ROUNDS} kills of the server: {acknowledged} acknowledged writes, none lost")


@LONG
def test_a_killed_milvus_comes_back(tmp_path: Path, empty: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    without: list[float] = []
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        galleries.enroll("g", "first", vector_of("first")).result()
        galleries.compact("g")  # until its rows are at Milvus a search doesn't ask it
        alive = ["first"]
        gone: set[str] = set()
        ended, refused, answered = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            for i in range(100_000):
                name = f"s{i}"
                galleries.enroll("g", name, vector_of(name)).result()
                alive.append(name)
                if i % 3 == 2:
                    galleries.delete_subject("g", f"s{i - 1}").result()
                    alive.remove(f"s{i - 1}")
                    gone.add(f"s{i - 1}")
                try:
                    galleries.search_many("g", [Search(vector_of(name), "e", 1)])
                    answered.set()
                except EngineUnavailable:
                    refused.set()
                if ended.is_set():
                    return

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for _ in range(ROUNDS):
                while len(alive) % 20 != 10:  # somewhere in between
                    worker.join(0.01)
                empty.tell("kill")
                killed = time.monotonic()
                refused.clear()  # of what was refused while the last one started
                before = len(alive)
                assert refused.wait(600)
                assert galleries.trouble()
                while len(alive) < before + 2:  # writes and deletions go on
                    worker.join(0.05)
                answered.clear()
                empty.tell("start")
                while not answered.wait(0.05):
                    assert worker.is_alive()
                without.append(time.monotonic() - killed)
        finally:
            ended.set()
            worker.join()
        while galleries.trouble():
            with contextlib.suppress(EngineUnavailable):
                galleries.search_many("g", [Search(vector_of("s0"), "e", 1)])
        check(galleries, alive, gone)
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        check(galleries, alive, gone)
    with capsys.disabled():
        print(
            f"\n{ROUNDS} kills of Milvus: {len(alive) + 2 * len(gone)} acknowledged writes, none lost; seconds without"
            f" answers: median {statistics.median(without):.1f}, worst {max(without):.1f}"
        )


@pytest.mark.parametrize("lost", ["data", "index", "loading"])
def test_a_restart_fills_again_what_was_lost_or_never_finished(tmp_path: Path, empty: Engine, lost: str) -> None:
    """index: the server was killed after a collection was made, and before its index was; loading: before that."""
    names = [f"s{i}" for i in range(30)]
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        for name in names:
            galleries.enroll("g", name, vector_of(name)).result()
        galleries.delete_subject("g", names.pop()).result()
        galleries.compact("g")
    client = pymilvus.MilvusClient(uri=empty.url().replace("milvus://", "http://").rpartition("/")[0])
    collections = client.list_collections()
    assert collections
    for name in collections:
        if lost == "data":
            client.drop_collection(name)
        else:
            client.release_collection(name)
        if lost == "index":
            client.drop_index(name, "vector")
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.compact("g")
        assert set(client.list_collections()) == set(collections)
        check(galleries, names, {"s29"})
