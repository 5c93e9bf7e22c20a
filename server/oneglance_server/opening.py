"""Opening the galleries that a server serves: those of its data directory, or those that another server keeps."""

from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from oneglance_index import (
    DeviceUnavailable,
    Gallery,
    GalleryError,
    GalleryStore,
    IndexSettings,
    LocalGalleries,
    OpenProgress,
)
from oneglance_index.search.milvus.access import read_token
from oneglance_server.access.quotas import Quotas
from oneglance_server.change_log import ChangeLogger
from oneglance_server.errors import StartupError
from oneglance_server.service.thresholds import Thresholds
from oneglance_server.settings import Settings
from oneglance_server.sharing.addresses import Keeping
from oneglance_server.sharing.files import RemoteFiles
from oneglance_server.sharing.news import News
from oneglance_server.sharing.remote import SharedGalleries, open_remote

log = structlog.get_logger()


def read_secret(source: str, flag: str) -> str:
    """What ``source``, the value of a flag, names. Raises StartupError."""
    try:
        secret = read_token(source, flag)
    except DeviceUnavailable as error:
        raise StartupError(f"{flag}: {error.reason}") from error
    if source and not (secret and secret.isascii() and secret.isprintable()):
        raise StartupError(f"{flag}: {source} holds no token of printable ASCII characters")
    return secret


def open_galleries(
    settings: Settings,
    thresholds: Thresholds,
    news: News | None,
    on_gone: Callable[[str], None],
) -> GalleryStore:
    """Those of the data directory. ``news``: hears of their changes. ``on_gone``: in any thread, of each that another
    server has deleted. Raises StartupError."""

    def progress(step: OpenProgress) -> None:
        log.info(
            "gallery loading",
            gallery=step.gallery_id,
            done=step.done_encodings,
            total=step.total_encodings,
            source=step.source,
            reason=step.reason,
        )

    def share(galleries: Mapping[str, Gallery | None]) -> None:
        if news is not None:
            news.tell(galleries)
            for gallery_id in [name for name, gallery in galleries.items() if gallery is None]:
                on_gone(gallery_id)

    index = IndexSettings(
        max_encodings_per_subject=settings.max_encodings_per_subject,
        gpu_temp_memory_bytes=settings.gpu_temp_memory_bytes,
        gpu_rows=settings.gpu_rows,
        gpu_lost=settings.gpu_lost,
        search_threads=settings.search_threads,
        row_codes=settings.row_codes,
        approximate_checked_share=settings.approximate_checked_share,
        start_check=settings.start_check,
        snapshot_every_encodings=settings.snapshot_every,
        master_key=settings.master_key,
        former_master_key=settings.former_master_key,
        backup_seconds=settings.backup_seconds,
        sweep_every_seconds=settings.sweep_every_seconds,
        audit_subjects=settings.audit_subjects,
        audit_days=settings.audit_days,
        engine_token=settings.galleries_token,
        engine_authority=settings.galleries_ca,
        engine_certificate=settings.galleries_cert,
        engine_key=settings.galleries_key,
        engine_copy_seconds=settings.galleries_copy_seconds if settings.galleries else 0.0,
    )
    try:
        return LocalGalleries.open(
            settings.data_dir,
            device=settings.galleries or settings.device,
            settings=index,
            progress=progress,
            tau_rule=thresholds.moved,
            on_change=ChangeLogger(name_subjects=settings.audit_subjects == "plain"),
            on_galleries=share,
        )
    except (GalleryError, OSError) as error:
        raise StartupError(f"can't open {settings.data_dir}: {error}") from error


def open_shared(
    settings: Settings, files: RemoteFiles, quotas: Quotas | None, on_gone: Callable[[str], None]
) -> SharedGalleries:
    """Those that another server keeps. ``files``: become its. ``quotas``: of this server's callers. ``on_gone``: as in
    open_galleries. Raises StartupError."""
    authority = settings.galleries_ca
    try:
        keeping = Keeping(
            settings.galleries,
            read_secret(settings.galleries_token, "--galleries-token"),
            Path(authority).read_bytes() if authority else None,
        )
        log.info("waiting for the keeper of the galleries", address=keeping.name)
        patience = settings.galleries_wait_seconds
        return open_remote(keeping, patience_seconds=patience, spending=quotas, on_gone=on_gone, files=files)
    except (GalleryError, OSError) as error:
        raise StartupError(f"can't use the galleries of {settings.galleries}: {error}") from error
