"""All checks, in the order in which they are told."""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from oneglance_core.cuda_driver import driver_trouble
from oneglance_core.folder import model_folders, read_any_model_folder
from oneglance_core.manifests import ModelFolderError
from oneglance_index import DATABASE_NAME
from oneglance_server.doctor import machine
from oneglance_server.doctor.disk import disk
from oneglance_server.doctor.finding import Finding, Verdict
from oneglance_server.errors import StartupError
from oneglance_server.upgrade import holder_of, upgrade_of

LEAST_CUDA = 13000  # of the driver
_PARTS = (("onnxruntime", "onnxruntime-gpu"), ("faiss-cpu", "faiss-gpu"), ("grpcio",), ("numpy",), ("cryptography",))
_OPTIONAL = ("openvino", "soundfile", "nicegui", "opentelemetry-sdk")


def examine(data_dir: Path, models: Sequence[Path], device: str) -> Iterator[Finding]:
    """``models``, ``device``: as in Settings. Writes one small file where the data is or is to be, and removes it."""
    yield from versions()
    yield from machine.processor()
    yield from machine.memory()
    yield from disk(data_dir)
    yield from machine.open_files()
    yield from machine.clock()
    yield from runtimes(device)
    yield from folders(models)
    yield from directory(data_dir)


def versions() -> Iterator[Finding]:
    found = [f"oneglance {version('oneglance')}, Python {platform.python_version()} on {platform.machine()}"]
    for names in _PARTS:
        installed = [f"{name} {version(name)}" for name in names if _is_installed(name)]
        if not installed:
            yield Finding("bad", "versions", f"{names[0]} isn't installed: pip install 'oneglance[cpu]'")
        elif len(installed) > 1:
            yield Finding("bad", "versions", f"{' and '.join(installed)}: both own one module; remove one of them")
        found += installed
    found += [f"{name} {version(name)}" for name in _OPTIONAL if _is_installed(name)]
    yield Finding("good", "versions", ", ".join(found))
    if sys.platform != "linux":
        yield Finding("bad", "versions", f"{sys.platform}: a server runs on Linux only")


def runtimes(device: str) -> Iterator[Finding]:
    """ONNX Runtime and FAISS, and the card where one is asked for."""
    try:
        import faiss

        from oneglance_core.sessions import onnx_runtime
    except ImportError as error:
        yield Finding("bad", "runtimes", f"can't be loaded: {error}")
        return
    has_cuda = onnx_runtime.load_cuda()
    cards = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    built = " ".join(faiss.get_compile_options().split())
    yield Finding("good", "runtimes", f"ONNX Runtime {'with' if has_cuda else 'without'} CUDA; FAISS for {built}")
    if device == "cpu":
        return
    trouble = driver_trouble(int(device.partition(":")[2] or 0), LEAST_CUDA)
    if not has_cuda:
        yield Finding("bad", "card", "this ONNX Runtime has no CUDA: pip install 'oneglance[gpu]' instead of [cpu]")
    if trouble:
        yield Finding("bad", "card", trouble)
    elif not cards:
        yield Finding("bad", "card", "FAISS sees none")
    else:
        yield Finding("good", "card", f"{device}; FAISS sees {cards}")


def folders(models: Sequence[Path]) -> Iterator[Finding]:
    """Read and checked as at a start, but not run."""
    for path in models:
        try:
            for one in model_folders(path):
                model = read_any_model_folder(one)
                size = model.manifest.model_bytes / 1e6
                told = f"{model.manifest.name}: {model.manifest.kind}, {size:.1f} MB, {model.digest[:12]}"
                yield Finding("good", "model", told)
        except ModelFolderError as error:
            yield Finding("bad", "model", str(error))


def directory(data_dir: Path) -> Iterator[Finding]:
    """Whose it is, who has it open, and whether this version can."""
    if not data_dir.exists():
        yield Finding("good", "data", f"{data_dir}: not there yet; a server makes it")
        return
    about = data_dir.stat()
    if about.st_uid != os.geteuid():
        yield Finding("note", "data", f"{data_dir} is of user {about.st_uid}, and this is user {os.geteuid()}")
    if about.st_mode & 0o077:
        yield Finding("note", "data", f"{data_dir} can be read by others (mode {about.st_mode & 0o777:o}): chmod 700")
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("bad", "data", f"{data_dir} can't be written by this user")
        return
    if not (data_dir / DATABASE_NAME).exists():
        yield Finding("good", "data", f"{data_dir}: no store yet")
        return
    holder = holder_of(data_dir)
    if holder is not None:
        yield Finding("note", "data", f"process {holder} has it open: another server would be refused")
    try:
        upgrade = upgrade_of(data_dir)
    except StartupError as error:
        yield Finding("bad", "data", str(error))
        return
    can = not upgrade.too_new and upgrade.has_room
    verdict: Verdict = "bad" if not can else "good" if upgrade.schema == upgrade.own else "note"
    yield Finding(verdict, "data", f"{data_dir}: {upgrade}")


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
