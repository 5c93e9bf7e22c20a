"""Processor, memory, open files and clock of this host, as far as this process may use them."""

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from oneglance_server.doctor.finding import Finding

_CPU, _MEMORY, _CGROUP = Path("/proc/cpuinfo"), Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_LEAST_FILES = 4096  # of max_connections, keys and libraries
_LEAST_BYTES = 1 << 30
_TIMEX_BYTES, _NOT_SYNCHRONISED = 512, 5  # of adjtimex(2): room for struct timex, and TIME_ERROR
_BYTES_OF_A_ROW = {128: 4 * 128 + 100, 512: 4 * 512 + 100}  # by dimension: docs/operations.md, "Memory"


def processor(information: Path = _CPU, cgroup: Path = _CGROUP) -> Iterator[Finding]:
    lines = information.read_text(errors="replace").splitlines() if information.exists() else []
    fields = [line.partition(":") for line in lines]
    flags = next((set(value.split()) for name, _, value in fields if name.strip() in ("flags", "Features")), set())
    model = next((value.strip() for name, _, value in fields if name.strip() == "model name"), "a processor")
    cores = len(os.sched_getaffinity(0))
    text = f"{model}, {cores} core(s) for this process"
    quota = _cores_of(cgroup / "cpu.max")
    if quota is not None and quota < cores:
        yield Finding(
            "note",
            "processor",
            f"{text}, of which the container may use {quota:g}: set encoder_workers and search_threads to that",
        )
    else:
        yield Finding("good", "processor", text)
    if not flags:
        yield Finding("note", "instructions", "can't be told from here")
    elif "avx2" not in flags and "asimd" not in flags:
        yield Finding("bad", "instructions", "no AVX2: ONNX Runtime and FAISS are several times slower, if they run")
    else:
        yield Finding("good", "instructions", "; ".join(_instructions(flags)))


def _instructions(flags: set[str]) -> Iterator[str]:
    if "asimd" in flags:
        yield "NEON"
        return
    yield "AVX2" + (" and AVX-512" if "avx512f" in flags else "; no AVX-512, with which searches are quicker")
    if flags & {"avx512_vnni", "avx_vnni"}:
        yield "VNNI: models in 8 bits are about twice as fast"
    else:
        yield "no VNNI: models in 8 bits gain a little only"
    if "amx_bf16" in flags:
        yield "AMX: try --encoder-engine openvino-bf16"


def memory(information: Path = _MEMORY, cgroup: Path = _CGROUP) -> Iterator[Finding]:
    fields = dict(line.split(":", 1) for line in information.read_text().splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    text = f"{_gib(available)} available"
    limit = _number(cgroup / "memory.max")
    if limit is not None:
        left = max(0, limit - (_number(cgroup / "memory.current") or 0))
        available = min(available, left)
        text += (
            f", of which the container may have {_gib(left)}; beyond that the kernel kills the server without a word"
        )
    room = max(0, available - _LEAST_BYTES)
    fits = " or ".join(f"{room // row:,} of {dimension}" for dimension, row in _BYTES_OF_A_ROW.items())
    if room:
        yield Finding("good", "memory", f"{text}: beside 1 GiB for the server itself, about {fits} numbers an encoding")
    else:
        yield Finding("bad", "memory", f"{text}: a server takes 1 GiB beside its galleries")


def open_files() -> Iterator[Finding]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= _LEAST_FILES:
        yield Finding("good", "open files", "no limit" if most == resource.RLIM_INFINITY else f"up to {most:,}")
    else:
        yield Finding(
            "note",
            "open files",
            f"up to {most:,}: each connection takes one (ulimit -Hn, LimitNOFILE); {_LEAST_FILES:,} are well",
        )


def clock() -> Iterator[Finding]:
    """Expiries, tokens and certificates are by it."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state < 0:
        yield Finding("note", "clock", "whether it is synchronised can't be told from here")
    elif state == _NOT_SYNCHRONISED:
        yield Finding(
            "note",
            "clock",
            "nothing says that it is synchronised (NTP): a clock that runs ahead deletes too soon those whose time "
            "ends, and refuses tokens and certificates",
        )
    else:
        yield Finding("good", "clock", "synchronised")


def _cores_of(file: Path) -> float | None:
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # "max": no limit
        return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
