"""The kinds of index there are, by name. A gallery's generation names its kind; a new kind is one more entry here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from oneglance_index.errors import GenerationUnsupported
from oneglance_index.records import FUSIONS, Gallery
from oneglance_index.search.device import Device
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.gpu_scan import GpuScan
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.scan import CpuScan


@dataclass(frozen=True, slots=True)
class Machine:
    """What an index computes with: `threads` threads of a pool, which run FAISS single-threaded, and the device."""

    pool: ThreadPoolExecutor
    threads: int
    device: Device


# Makes an empty index for encodings of this dimension.
IndexFactory = Callable[[int, Machine], GalleryIndex]


def _flat(dimension: int, machine: Machine) -> GalleryIndex:
    device = machine.device
    host = CpuScan(machine.pool, machine.threads)
    if device.gpu is None:
        return ExactIndex(dimension, host)
    return ExactIndex(dimension, GpuScan(device.gpu, dimension), host if device.cpu_instead else None)


KINDS: dict[str, IndexFactory] = {ExactIndex.kind: _flat}


def check_kind(gallery_id: str, kind: str) -> None:
    """Raises GenerationUnsupported for a kind of index that isn't registered."""
    if kind not in KINDS:
        raise GenerationUnsupported(gallery_id, "kind of index", kind, tuple(KINDS))


def make_index(gallery: Gallery, machine: Machine) -> GalleryIndex:
    """An empty index for a gallery's active generation. Raises GenerationUnsupported."""
    generation = gallery.active
    check_kind(gallery.id, generation.kind)
    if generation.fusion not in FUSIONS:
        raise GenerationUnsupported(gallery.id, "rule of fusion", generation.fusion, FUSIONS)
    return KINDS[generation.kind](generation.dimension, machine)
