"""The kinds of index there are, by name. A gallery's generation names its kind; a new kind is one more entry here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from oneglance_core.fusion import FUSIONS, has_template
from oneglance_index.approximation import APPROXIMATE, EXACT_KIND, Approximation, approximation_of, name_of
from oneglance_index.errors import GenerationUnsupported
from oneglance_index.records import Gallery
from oneglance_index.search.coded import CodedScan
from oneglance_index.search.device import Device, Remote
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.fused import FusedIndex
from oneglance_index.search.gpu_scan import GpuScan
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.milvus.engine import Collection
from oneglance_index.search.milvus.index import MilvusIndex
from oneglance_index.search.scan import CpuScan, every_distance


@dataclass(frozen=True, slots=True)
class Machine:
    """What an index computes with: `threads` threads of a pool, which run FAISS single-threaded, and the device.
    `coded`: on the host rows are kept as codes, too. `patient`: a pool like the other for scans for many probes."""

    pool: ThreadPoolExecutor
    threads: int
    device: Device
    coded: bool
    patient: ThreadPoolExecutor | None = None


# Makes an empty index for encodings of this dimension, and this rule of fusion, of the generation of this number.
IndexFactory = Callable[[int, Machine, str, int], GalleryIndex]


def _flat(dimension: int, machine: Machine, fusion: str, generation: int) -> GalleryIndex:
    device = machine.device
    if device.remote is not None:
        return _at_milvus(dimension, device.remote, fusion, generation)
    coded = machine.coded and device.gpu is None
    pools = machine.pool, machine.threads
    host = CodedScan(*pools, dimension, machine.patient) if coded else CpuScan(*pools, machine.patient)
    every = functools.partial(every_distance, *pools)
    if device.gpu is None:
        index = ExactIndex(dimension, host, every, templates=has_template(fusion), pool=machine.pool)
    else:
        spare = host if device.cpu_instead else None
        index = ExactIndex(dimension, GpuScan(device.gpu, dimension), every, spare, templates=has_template(fusion))
    if not has_template(fusion):
        return index
    singles = ExactIndex(dimension, CpuScan(*pools, machine.patient), every, ordered=False)
    return FusedIndex(index, singles, margin=fusion == "margin")


def _at_milvus(dimension: int, remote: Remote, fusion: str, generation: int) -> GalleryIndex:
    def part(name: str, templates: bool = False, some: bool = False) -> MilvusIndex:
        return MilvusIndex(remote.engine, remote.writer, Collection(generation, name, dimension), templates, some)

    if not has_template(fusion):
        return part("encodings")
    return FusedIndex(part("templates", templates=True), part("singles", some=True), margin=fusion == "margin")


KINDS: dict[str, IndexFactory] = {EXACT_KIND: _flat, APPROXIMATE: _flat}


def check_supported(gallery_id: str, kind: str, fusion: str) -> None:
    """Raises GenerationUnsupported for a kind of index that isn't registered, or a rule of fusion that there isn't."""
    try:
        _what_may_be_lost(kind)
        KINDS[name_of(kind)]
    except (ValueError, KeyError):
        raise GenerationUnsupported(gallery_id, "kind of index", kind, tuple(KINDS)) from None
    if fusion not in FUSIONS:
        raise GenerationUnsupported(gallery_id, "rule of fusion", fusion, FUSIONS)


def make_index(gallery: Gallery, number: int, machine: Machine) -> GalleryIndex:
    """An empty index for a gallery's active generation, which has this number. Raises GenerationUnsupported."""
    generation = gallery.active
    check_supported(gallery.id, generation.kind, generation.fusion)
    index = KINDS[name_of(generation.kind)](generation.dimension, machine, generation.fusion, number)
    index.approximate(_what_may_be_lost(generation.kind))
    return index


def _what_may_be_lost(kind: str) -> Approximation | None:
    """Raises ValueError."""
    return approximation_of(kind) if name_of(kind) == APPROXIMATE else None
