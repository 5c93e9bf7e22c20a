"""One real Milvus for all tests of this folder; they are skipped, in words, where there can be none."""

from collections.abc import Iterator

import pytest

from tests.index.milvus.engine import Cluster, Engine, installation, why_no_cluster, why_not


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    engine = Engine(installation(tmp_path_factory.mktemp("installed")), tmp_path_factory.mktemp("milvus"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Another one, in several processes."""
    reason = why_no_cluster()
    if reason:
        pytest.skip(reason)
    cluster = Cluster(installation(tmp_path_factory.mktemp("installed")), tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def empty(milvus: Engine) -> Engine:
    """The Milvus, without the rows of former tests."""
    return emptied(milvus)


@pytest.fixture
def empty_cluster(cluster: Cluster) -> Cluster:
    emptied(cluster)
    return cluster


def emptied(engine: Engine) -> Engine:
    from pymilvus import MilvusClient

    for role in engine.roles:
        engine.tell("stay", role)
    client = MilvusClient(uri=f"http://127.0.0.1:{engine.port}")
    for name in client.list_collections():
        client.drop_collection(name)
    client.close()
    return engine
