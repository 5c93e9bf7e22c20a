"""Runs a real cluster of Milvus, each role a process, where nobody else can reach it; engine.py starts it.

    python -m tests.index.milvus.real_cluster INSTALLATION DATA

As real_engine.py, with the roles of engine.Cluster. Their metadata are in a real etcd; the message queue is
librdkafka's mock of Kafka, which `confluent-kafka` has: it keeps messages in this process's memory, about 5 MB for each
topic. Files are in a folder that all share, in place of an object store.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.index.milvus.engine import Cluster, etcd_program
from tests.index.milvus.real_engine import Milvus, leave_the_network, serve

# How long a process that says nothing counts as alive, and how soon another takes over from one that died.
SESSION_SECONDS = int(os.environ.get("ONEGLANCE_MILVUS_SESSION_SECONDS", "10"))
ARGUMENTS = {
    "coordinators": ("mixture", "-rootcoord", "-querycoord", "-datacoord", "-indexcoord"),
    "querynode-1": ("querynode", "-alias", "1"),
    "querynode-2": ("querynode", "-alias", "2"),
}


def await_port(port: int) -> None:
    while True:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


def main() -> None:
    installation, data = map(Path, sys.argv[1:])
    listening = socket.create_server(("127.0.0.1", 0))
    leave_the_network()
    kafka = AdminClient({"test.mock.num.brokers": "1"})
    (broker,) = kafka.list_topics(timeout=60).brokers.values()
    settings = {
        "DEPLOY_MODE": "CLUSTER",
        "ETCD_USE_EMBED": "false",
        "ETCD_ENDPOINTS": "127.0.0.1:2379",
        "MQ_TYPE": "kafka",
        "KAFKA_BROKERLIST": f"{broker.host}:{broker.port}",
        "COMMON_SESSION_TTL": str(SESSION_SECONDS),
        "QUERYCOORD_AUTOBALANCE": "true",  # as Milvus's own settings have it; the wheel's don't
        "QUERYCOORD_BALANCEINTERVALSECONDS": "5",
        "DATACOORD_COMPACTION_ENABLEAUTOCOMPACTION": "false",  # a test asks for it
    }
    with (data / "etcd.log").open("ab") as log:
        etcd = subprocess.Popen([etcd_program(), "--data-dir", data / "etcd"], stdout=log, stderr=log)
    roles = {
        role: Milvus(installation, data, ARGUMENTS.get(role, (role,)), 9100 + at, settings)
        for at, role in enumerate(Cluster.roles)
    }
    try:
        await_port(2379)
        for role in roles.values():
            role.begin()
        for role in roles.values():
            role.await_healthy()
        asyncio.run(serve(listening, roles))
    finally:
        for role in roles.values():
            role.signal(signal.SIGKILL)
        etcd.kill()
        shutil.rmtree(data / "milvus", ignore_errors=True)


if __name__ == "__main__":
    main()
