"""One real Milvus for all tests of this folder; they are skipped, in words, where there can be none."""

from collections.abc import Iterator

import pytest

from tests.index.milvus.engine import Engine, installation, why_not


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    engine = Engine(installation(tmp_path_factory.mktemp("installed")), tmp_path_factory.mktemp("milvus"))
    yield engine
    engine.close()


@pytest.fixture
def empty(milvus: Engine) -> Engine:
    """The Milvus, without the rows of former tests."""
    from pymilvus import MilvusClient

    milvus.tell("stay")
    client = MilvusClient(uri=f"http://127.0.0.1:{milvus.port}")
    for name in client.list_collections():
        client.drop_collection(name)
    client.close()
    return milvus
