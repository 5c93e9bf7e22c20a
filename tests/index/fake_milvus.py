"""A Milvus in a few dictionaries, for what must be tried at a certain moment: it sees each write at once, and never
fails. Whether the real one does what is asked of it, tests/index/milvus tries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from oneglance_core.distance import squared_l2
from oneglance_index.records import Integers, Rows, Vectors
from oneglance_index.search import device
from oneglance_index.search.milvus.engine import MARK, Collection, Engine, Hits, Known, NotForgotten

URL = "milvus://nowhere:1"
_Row = tuple[int, int, Vectors]  # subject, stamp, vector


class FakeMilvus(Engine):
    def __init__(self, *_: object) -> None:
        self.collections: dict[str, dict[int, _Row]] = {}
        self.sealed: list[int] = []  # of how many rows each time
        self.loses = False  # the next deletions
        self.since: dict[str, int] = {}  # as unforgotten_since()
        self.forgotten: list[int] = []  # how many rows there were each time
        # Rows that should be gone, by number, and that there may be others of the same number beside.
        self.lost: dict[str, list[tuple[int, _Row]]] = {}

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> FakeMilvus:
        """Galleries that are opened at URL are at this one."""
        fake = cls()
        monkeypatch.setattr(device, "Connection", lambda *_: None)
        monkeypatch.setattr(device, "Engine", lambda *_: fake)
        return fake

    @property
    def name(self) -> str:
        return URL

    def close(self) -> None:
        pass

    def trouble(self) -> str | None:
        return None

    def belongs_to(self, store_id: str) -> None:
        pass

    def make(self, collection: Collection) -> None:
        self.collections[collection.name] = {}

    def known(self, collection: Collection) -> Known | None:
        if collection.name not in self.collections:
            return None
        known = sorted({number: stamp for number, (_, stamp, _) in self._rows(collection)}.items())
        return Known(*np.array(known, np.int64).reshape(-1, 2).T.copy())

    def write(self, collection: Collection, gone: Integers, rows: Rows, stamps: Integers, to_forget: int | None) -> int:
        if to_forget is not None:
            self.since.setdefault(collection.name, to_forget)
        held = self.collections[collection.name]
        written = {*gone.tolist(), *rows.numbers.tolist()}
        strays = self.lost.get(collection.name, [])
        self.lost[collection.name] = [(number, row) for number, row in strays if number not in written]
        for number in gone.tolist():
            row = held.pop(number, None)
            if row is not None and self.loses:
                self.lost[collection.name].append((number, row))
        self.loses &= not len(gone)
        for number, subject, stamp, vector in zip(
            rows.numbers.tolist(), rows.subjects.tolist(), stamps.tolist(), rows.vectors, strict=True
        ):
            held[number] = subject, stamp, vector.copy()
        return 1

    def nearest(
        self,
        collection: Collection,
        probes: Vectors,
        most: int,
        since: int,
        where: str = "",
        reach: float | None = None,
    ) -> Hits:
        asked = compile(where or "True", collection.name, "eval")  # its expressions are Python's, too
        rows = [
            (number, subject, vector)
            for number, (subject, _, vector) in self._rows(collection)
            if eval(asked, {"number": number, "subject": subject})
        ]
        if len(probes) == 1:  # of rows of one number Milvus gives the nearest; whoever has strays asks for one probe
            nearest_first = sorted(rows, key=lambda row: squared_l2(row[2][None], probes[0])[0])
            rows = list({row[0]: row for row in reversed(nearest_first)}.values())
        shape = len(probes), min(most, len(rows))
        vectors = np.array([vector for _, _, vector in rows], np.float32).reshape(-1, collection.dimension)
        away = np.array([squared_l2(vectors, probe) for probe in probes], np.float32).reshape(len(probes), -1)
        order = np.argsort(away, axis=1, kind="stable")[:, : shape[1]]
        numbers, subjects = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
        distances = np.take_along_axis(away, order, axis=1)
        near = np.ones(shape, np.bool_) if reach is None else distances < reach
        return Hits(
            np.where(near, distances, np.inf).astype(np.float32),
            np.where(near, numbers[order], MARK),
            np.where(near, subjects[order], MARK),
            vectors[order],
            near.sum(axis=1) < most,
        )

    def rows(self, collection: Collection, wanted: Mapping[int, int], since: int) -> Iterator[tuple[int, int, Vectors]]:
        for number, (subject, stamp, vector) in self.collections[collection.name].items():
            if wanted.get(number) == stamp:
                yield number, subject, vector.copy()

    def seal(self, collection: Collection) -> bool:
        self.sealed.append(len(self.collections[collection.name]))
        return True

    def unforgotten_since(self, collection: Collection) -> int | None:
        return self.since.get(collection.name)

    def forget(self, collection: Collection, rows: int, go_on: Callable[[], bool]) -> None:
        if len(self._rows(collection)) != rows:
            raise NotForgotten("there are others")
        del self.since[collection.name]
        self.forgotten.append(rows)

    def strays(self, collection: Collection, numbers: Integers, stamps: Integers, since: int) -> Iterator[Integers]:
        held = dict(zip(numbers.tolist(), stamps.tolist(), strict=True))
        yield np.array([number for number, row in self._rows(collection) if held.get(number) != row[1]], np.int64)

    def _rows(self, collection: Collection) -> list[tuple[int, _Row]]:
        return [*self.collections[collection.name].items(), *self.lost.get(collection.name, [])]

    def compact(self, collection: Collection) -> None:
        pass

    def _names(self) -> Sequence[str]:  # type: ignore[override]
        return list(self.collections)

    def _drop(self, name: str) -> None:
        self.collections.pop(name, None)
