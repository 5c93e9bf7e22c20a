"""A real Milvus for tests: from the PyPI wheel milvus==2.3.5, which ONEGLANCE_MILVUS names, or a folder it was unpacked
to (`python -m tests.index.milvus.engine WHEEL FOLDER`). Nothing is downloaded."""

from __future__ import annotations

import importlib.util
import lzma
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "ONEGLANCE_MILVUS"
_TEMPLATE = "config.yaml.template"
# Where Milvus keeps what, and how soon a killed one may start again; the time tick is what Strong reads wait for.
_SETTINGS = {
    "etcd_data_dir": "milvus/etcd",
    "local_storage_dir": "milvus/storage",
    "rocksmq_data_dir": "milvus/rocksmq",
    "system_log_path": "milvus/logs",
}
_CHANGED = {"ttl": "10", "gracefulStopTimeout": "2", "timeTickInterval": "50"}


def unpack(wheel: Path, folder: Path) -> None:
    """Writes Milvus's program, its libraries and the template of its settings to a folder, about 250 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            if name.startswith("milvus/data/bin/"):
                target = folder / Path(name).name.removesuffix(".lzma")
                target.write_bytes(lzma.decompress(packed.read(name)))
        for name in (_TEMPLATE, "glog.conf"):
            (folder / name).write_bytes(packed.read(f"milvus/data/{name}"))
    (folder / "milvus").chmod(0o755)


def why_not() -> str:
    """Why no Milvus can be started here, in words; "" where one can."""
    if importlib.util.find_spec("pymilvus") is None:
        return "pymilvus isn't installed: the extra `milvus` has it"
    if not os.environ.get(VARIABLE):
        return f"{VARIABLE} names no wheel of milvus==2.3.5, nor a folder that it was unpacked to"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        return "no network of its own can be had here, and Milvus listens on all addresses"
    return ""


def why_no_cluster() -> str:
    """Why no cluster of it can be started here, in words; "" where one can."""
    if reason := why_not():
        return reason
    if not etcd_program():
        return "there is no etcd: Debian's etcd-server has it; ONEGLANCE_ETCD names one elsewhere"
    if importlib.util.find_spec("confluent_kafka") is None:
        return "confluent-kafka isn't installed, whose mock of Kafka is the cluster's message queue"
    return ""


def etcd_program() -> str:
    return os.environ.get("ONEGLANCE_ETCD") or shutil.which("etcd") or ""


def installation(scratch: Path) -> Path:
    """The unpacked Milvus, in `scratch` where only the wheel is there."""
    named = Path(os.environ[VARIABLE])
    if named.is_dir():
        return named
    unpack(named, scratch)
    return scratch


def write_settings(installed: Path, data: Path, changed: Mapping[str, str]) -> None:
    """As the wheel's own launcher makes them, with everything under `data`; `changed`: the last words of lines."""
    text = (installed / _TEMPLATE).read_text()
    for name, value in _SETTINGS.items():
        text = text.replace(f"{{{{ {name} }}}}", str(data / value))
    text = re.sub(r"\{\{ *\w+(?:\(\w+\))? *: *([^}]*?) *\}\}", r"\1", text)
    text = re.sub(r"\{\{ *(\w+)(?:\(\w+\))? *\}\}", "", text)
    for name, value in {**_CHANGED, **changed}.items():
        text = re.sub(rf"^( +{name}): +\S+", rf"\1: {value}", text, flags=re.MULTILINE)
    (data / "configs").mkdir(parents=True)
    (data / "configs/milvus.yaml").write_text(text)
    (data / "configs/glog.conf").write_bytes((installed / "glog.conf").read_bytes())


class Engine:
    """A running Milvus; `port` on 127.0.0.1 leads to it. `changed`: of its settings, by name."""

    module = "real_engine"
    roles: tuple[str, ...] = ("standalone",)

    def __init__(self, installed: Path, data: Path, **changed: str) -> None:
        data.mkdir(parents=True, exist_ok=True)
        write_settings(installed, data, changed)
        self.data = data
        program = [sys.executable, "-m", f"tests.index.milvus.{self.module}", str(installed), str(data)]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = self._told()
        if not told.isdigit():
            raise RuntimeError(f"Milvus doesn't start: see {data}/*.log")
        self.port = int(told)

    def url(self, database: str = "default") -> str:
        return f"milvus://127.0.0.1:{self.port}/{database}"

    def tell(self, act: str, role: str = "standalone") -> None:
        """ "kill", "stop", "start", "pause", "go" or "stay"; it is so when this returns."""
        assert self._process.stdin is not None
        print(act, role, file=self._process.stdin, flush=True)
        if self._told() != "done":
            raise RuntimeError(f"{act} failed: see {self.data}/*.log")

    def _told(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Cluster(Engine):
    """A running cluster, each role a process."""

    module = "real_cluster"
    roles = ("coordinators", "datanode", "indexnode", "querynode-1", "querynode-2", "proxy")


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
