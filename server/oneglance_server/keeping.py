"""What can be done with a data directory, or a host, without a server: check it, back it up, restore it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oneglance_index import (
    DATABASE_NAME,
    GalleryError,
    back_up,
    check_directory,
    check_file,
    export_trail,
    parse_device,
    read_trail,
    repair,
    restore,
    same_names_in,
    verify_export,
    verify_receipt,
    verify_trail,
)
from oneglance_server.doctor import Finding, examine
from oneglance_server.errors import StartupError
from oneglance_server.settings import Settings
from oneglance_server.upgrade import Upgrade, upgrade_of


def check(data: Path, master_key: str = "") -> Iterator[str]:
    """What is wrong with a data directory, or a backup, a line each. What is encrypted in a backup isn't looked into.

    Raises StartupError for one that can't be read.
    """
    try:
        database = _database(data)
        yield from check_directory(data, master_key) if data.is_dir() else check_file(database, master_key)
    except GalleryError as error:
        raise StartupError(str(error)) from error


def same_names(data: Path) -> list[str]:
    """Ids in a data directory, or a backup, that differ only in how they are spelled, a line for each name. Raises
    StartupError."""
    try:
        return same_names_in(_database(data))
    except GalleryError as error:
        raise StartupError(str(error)) from error


def backup(data_dir: Path, target: Path, master_key: str = "") -> None:
    """A server may have the directory open, and write. Raises StartupError."""
    try:
        back_up(_database(data_dir), target, master_key)
    except GalleryError as error:
        raise StartupError(str(error)) from error


def restore_backup(source: Path, data_dir: Path, master_key: str = "") -> Path | None:
    """Where what was there before is now; None where nothing was. No server may have the directory open. Raises
    StartupError."""
    try:
        return restore(source, data_dir, master_key)
    except GalleryError as error:
        raise StartupError(str(error)) from error


def repair_directory(data_dir: Path, master_key: str, backup: Path | None) -> tuple[Path, list[str]]:
    """Where the damaged store is now, and what could not be saved. No server may have the directory open. Raises
    StartupError."""
    try:
        return repair(data_dir, master_key, backup)
    except GalleryError as error:
        raise StartupError(str(error)) from error


def read_receipt(receipt: str, public_key: Path) -> Mapping[str, Any]:
    """What the receipt of a deletion says. `public_key`: the file receipts.pub of the data directory. Raises
    StartupError for one that isn't signed with this key."""
    try:
        return verify_receipt(receipt, public_key.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise StartupError(str(error)) from error
    except GalleryError as error:
        raise StartupError(str(error)) from error


def audit_trail(data_dir: Path, last: int) -> Iterator[str]:
    """The newest entries of the audit trail, at most so many, the oldest first. Raises StartupError."""
    try:
        yield from read_trail(data_dir, last)
    except GalleryError as error:
        raise StartupError(str(error)) from error


def exported_trail(data_dir: Path) -> Iterator[str]:
    """All entries of the audit trail, and its head. Raises StartupError."""
    try:
        yield from export_trail(data_dir)
    except GalleryError as error:
        raise StartupError(str(error)) from error


def trail_faults(data: Path, public_key: Path | None, head: Path | None) -> list[str]:
    """What is wrong with the audit trail of a data directory, or with an export of it, a line each. ``public_key``: the
    file receipts.pub, which an export needs; ``head``: an earlier export. Raises StartupError."""
    try:
        key = public_key.read_text(encoding="ascii", errors="replace") if public_key else ""
        if data.is_dir():
            kept = head.read_text(encoding="utf-8").splitlines()[-1:] if head else []
            return verify_trail(data, key, "".join(kept))
        if not key:
            raise StartupError("--public-key says by whom an export must be signed: receipts.pub of its data directory")
        with data.open(encoding="utf-8") as exported:
            return verify_export(exported, key)
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(str(error)) from error
    except GalleryError as error:
        raise StartupError(str(error)) from error


def check_upgrade(data_dir: Path) -> Upgrade:
    """What to open the directory with this version would do. Nothing is written. Raises StartupError."""
    return upgrade_of(data_dir)


def examine_host(data_dir: Path, models: Sequence[Path], device: str) -> Iterator[Finding]:
    """Whether this host can run a server. ``models``: none: those that it has by default. Raises StartupError for a
    device that is none."""
    try:
        parse_device(device)
    except GalleryError as error:
        raise StartupError(str(error)) from error
    yield from examine(data_dir, models or Settings.model_fields["models"].default, device)


def _database(data: Path) -> Path:
    """Of a data directory; or a file, as it is. Raises StartupError where there is neither."""
    if not data.exists():
        raise StartupError(f"{data} is missing")
    return data / DATABASE_NAME if data.is_dir() else data
