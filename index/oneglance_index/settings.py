"""What can be tuned, each default stated once."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """`search_threads` 0 means one per core. `gpu_temp_memory_bytes` is FAISS's scratch space on the GPU."""

    max_encodings_per_subject: int = 1000
    max_candidates: int = 10_000
    request_ttl_seconds: float = 24 * 3600.0
    snapshot_every_encodings: int = 100_000
    search_threads: int = 0
    gpu_temp_memory_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            minimum = 0 if field.name in ("search_threads", "gpu_temp_memory_bytes", "request_ttl_seconds") else 1
            if not getattr(self, field.name) >= minimum:
                raise ValueError(f"{field.name} must be at least {minimum}, got {getattr(self, field.name)}")
