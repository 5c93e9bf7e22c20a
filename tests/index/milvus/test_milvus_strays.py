"""Rows at a real Milvus that should be gone: it takes a second row of a number, as where it lost a deletion, and tells
the nearer one of the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import Found, LocalGalleries, Search
from oneglance_index.records import Rows
from oneglance_index.search.milvus.access import Access
from oneglance_index.search.milvus.address import parse_address
from oneglance_index.search.milvus.connection import Connection
from oneglance_index.search.milvus.engine import Collection
from oneglance_index.search.milvus.engine import Engine as Connected
from oneglance_index.search.milvus.index import stamps_of
from tests.index.milvus.engine import Engine
from tests.waiting import until

pymilvus: Any = pytest.importorskip("pymilvus")


def test_a_row_that_should_be_gone_hides_nobody_and_goes(tmp_path: Path, empty: Engine) -> None:
    near, there = np.ones((1, 8), np.float32), np.full((1, 8), 3, np.float32)
    client = pymilvus.MilvusClient(uri=f"http://127.0.0.1:{empty.port}", dedicated=True)

    def nearest_there() -> Any:
        fields = ["number", "subject", "stamp", "vector"]
        of_somebody = {"filter": "number >= 0", "output_fields": fields, "search_params": {"metric_type": "L2"}}
        (found,) = client.search(name, data=[near[0]], limit=1, timeout=30, **of_somebody)
        return found[0]

    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8, fusion="mean").result()
        galleries.enroll("g", "changed", near).result()
        galleries.enroll("g", "far", there * 3).result()
        galleries.compact("g")
        (name,) = client.list_collections()
        former = dict(nearest_there()["entity"])
        galleries.enroll("g", "changed", there).result()  # the template is between the two
        galleries.compact("g")
        present = nearest_there()
        assert (present["entity"]["number"], present["distance"]) == (former["number"], 8.0)
        client.insert(name, [former])
        until(lambda: nearest_there()["distance"] == 0)

        def answers_right() -> None:
            (found,) = galleries.search_many("g", [Search(near, "e", 2, 9.0, 5)])
            assert isinstance(found, Found)
            assert [(one.subject_id, one.distance) for one in found.candidates[0]] == [("changed", 8.0), ("far", 512.0)]
            assert [one.subject_id for one in found.matches[0]] == ["changed"]

        def put_right() -> bool:
            answers_right()  # where Milvus loses that deletion, too, it is found again
            return bool(nearest_there()["distance"] == 8)

        answers_right()
        until(put_right)
    client.close()


def test_rows_that_should_be_gone_are_found_among_all(empty: Engine) -> None:
    engine = Connected(Connection(parse_address(empty.url()), Access()), replicas=1)
    engine.belongs_to("store")
    collection = Collection(1, "encodings", 8)
    engine.make(collection)
    numbers = np.arange(5_000)
    rows = Rows(numbers, numbers, np.random.default_rng(0).standard_normal((len(numbers), 8), np.float32))
    stamps = stamps_of(rows)
    since = engine.write(collection, np.empty(0, np.int64), rows, stamps, None)

    def found(kept: np.ndarray) -> list[int]:
        strays = engine.strays(collection, numbers[kept], stamps[kept], since)
        return [int(number) for some in strays for number in some]

    assert found(np.ones(len(numbers), np.bool_)) == []
    kept = ~np.isin(numbers, [0, 7, 4_999])
    stamps[4_500] += 1
    assert found(kept) == [0, 7, 4_500, 4_999]
    stamps[4_500] -= 1
    few = numbers < 30
    assert len(found(few)) == len(numbers) - 30
    assert len(found(numbers < 0)) == len(numbers)
    engine.drop(collection)
    engine.close()
