"""What the keeper of galleries does for the servers that use them, beside being their GalleryStore."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from oneglance_index.records import Backup


class Beside(Protocol):
    """Blocks where it returns no Future, as GalleryStore does."""

    @property
    def backs_up(self) -> bool:
        """Whether there is a folder for backups."""

    def create_backup(self, name: str) -> Future[Backup]:
        """See service.backups.Backups."""

    def replace_file(self, name: str, former: str, text: str) -> bool:
        """The text of a file that servers have in common, known to all of them when this returns, if the one that there
        is has SHA-256 `former`; whether it had. StoreIOError."""
