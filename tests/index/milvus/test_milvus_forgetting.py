"""What is deleted leaves the files of a real Milvus, whose garbage collection is quick here: by their bytes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import IndexSettings, LocalGalleries
from oneglance_index.search.milvus import writer
from tests.index.milvus.engine import Engine, installation, why_not
from tests.waiting import until

DIMENSION, SUBJECTS = 64, 600


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if reason := why_not():
        pytest.skip(reason)
    installed = installation(tmp_path_factory.mktemp("installed"))
    engine = Engine(installed, tmp_path_factory.mktemp("quick"), interval="3", dropTolerance="3")
    yield engine
    engine.close()


def contents(folder: Path) -> Iterator[bytes]:
    for path in list(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            yield path.read_bytes()


@pytest.mark.parametrize("restarted", [False, True])
def test_files_have_nothing_of_what_was_deleted(
    tmp_path: Path, quick: Engine, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """While others are enrolled; nor after a restart that came before they were to be compacted."""
    monkeypatch.setattr(writer, "_FORGET_AGAIN_SECONDS", 0.0)
    random = np.random.default_rng(restarted)
    vectors = {f"s{i}": random.standard_normal((1, DIMENSION), np.float32) for i in range(SUBJECTS)}

    def in_files(subject: str) -> bool:
        return any(vectors[subject].tobytes() in content for content in contents(quick.data / "milvus/storage"))

    def enroll_on() -> None:
        while not ended.wait(0.05):
            vector = random.standard_normal((1, DIMENSION), np.float32)
            galleries.enroll("g", f"more{len(enrolled)}", vector).result()
            enrolled.append(vector)

    ended, enrolled = threading.Event(), list[object]()
    never = IndexSettings()
    soon = IndexSettings(engine_copy_seconds=1.0)
    with LocalGalleries.open(tmp_path, device=quick.url(), settings=never if restarted else soon) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        for start in range(0, SUBJECTS, 200):
            for subject in list(vectors)[start : start + 200]:
                galleries.enroll("g", subject, vectors[subject]).result()
            galleries.compact("g")
        until(lambda: in_files("s100") and in_files("s500"))
        gone = ["s100", "s500"]
        for subject in gone:
            galleries.delete_subject("g", subject).result()
    with LocalGalleries.open(tmp_path, device=quick.url(), settings=soon) as galleries:
        caller = threading.Thread(target=enroll_on)
        caller.start()
        try:
            until(lambda: not any(map(in_files, gone)))
        finally:
            ended.set()
            caller.join()
        assert in_files("s101")
        assert in_files("s501")
        assert len(enrolled) > 3
        assert galleries.index_info("g").subjects == SUBJECTS - 2 + len(enrolled)
        galleries.delete_gallery("g").result()
