"""What Witnesses count on, of a real Milvus: which segments are sealed is told as soon as they are, and all rows of a
request go to one."""

import numpy as np

from oneglance_index.records import Rows
from oneglance_index.search.milvus.access import Access
from oneglance_index.search.milvus.address import parse_address
from oneglance_index.search.milvus.connection import Connection
from oneglance_index.search.milvus.engine import Collection, Engine
from oneglance_index.search.milvus.index import stamps_of
from tests.index.milvus.engine import Engine as RunningMilvus


def test_a_segment_is_told_as_soon_as_it_is_sealed_and_has_all_rows_that_came_before(empty: RunningMilvus) -> None:
    from pymilvus.client.prepare import Prepare

    connection = Connection(parse_address(empty.url()), Access())
    engine = Engine(connection, replicas=1)
    engine.belongs_to("store")
    collection = Collection(1, "encodings", 1024)
    engine.make(collection)
    known, total = engine._sealed(collection.name), 0
    sizes = []
    for number, size in enumerate((1, 3000, 20, 1, 2500, 7)):  # some come in several requests
        numbers = np.arange(number * 10_000, number * 10_000 + size)
        rows = Rows(numbers, numbers, np.ones((size, 1024), np.float32))
        engine.write(collection, np.empty(0, np.int64), rows, stamps_of(rows), None)
        connection.client._get_connection()._stub.Flush(Prepare.flush_param([collection.name]), timeout=60)
        (new,) = engine._sealed(collection.name) - known
        known |= {new}
        total += size
        sizes.append(size)
    engine.seal(collection)  # it is waited for
    told = connection.client.list_persistent_segments(collection.name)
    for size, one in zip(sizes, sorted(told, key=lambda one: one.segment_id), strict=True):
        assert size < one.num_rows <= size + 10  # some are nobody's
    there = engine.known(collection)
    assert there is not None
    assert len(there.numbers) == total
    engine.drop(collection)
    engine.close()
