"""What this process does for others beside keeping galleries."""

from __future__ import annotations

from oneglance_index.errors import StoreIOError
from oneglance_server.errors import StartupError
from oneglance_server.service.backups import Backups
from oneglance_server.shared_files import LocalFiles


class KeepersOwn:
    """A Beside, of what is here."""

    def __init__(self, backups: Backups, files: LocalFiles) -> None:
        self._backups, self._files = backups, files
        self.create_backup = backups.create_backup

    @property
    def backs_up(self) -> bool:
        return self._backups.backs_up

    def replace_file(self, name: str, former: str, text: str) -> bool:
        try:
            return self._files.replace(name, former, text)
        except OSError as error:
            raise StoreIOError(self._files.folder / name, str(error)) from error
        except StartupError as error:
            raise ValueError(str(error)) from error
