"""API keys: long random secrets that programs call with. Only their hashes are kept, in one file.

A key reads ``og_ID_SECRET``: 16 hexadecimal digits that lists show, and 43 characters that are shown once. A secret has
256 random bits, so that its SHA-256 needs no salt and no slow hash.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from oneglance_server.errors import ApiKeyNotFound, ApiKeysBusy, InvalidRequest, StartupError
from oneglance_server.shared_files import Files

FILE = "api-keys.json"
PREFIX = "og_"
MAX_KEYS = 10_000
_KEY = re.compile(r"og_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """created, expires: seconds since 1970; expires None: never. sha256: of the whole key, hexadecimal."""

    id: str
    name: str
    created: float
    expires: float | None
    sha256: str


class ApiKeys:
    """The keys of a data directory, here or at the server that keeps the galleries. Several processes may share them.
    Safe from any thread. What is made or revoked is so everywhere when its call returns.

    Raises StartupError; while the one that keeps them isn't heard of, all but ``look`` and ``sha256`` raise
    EngineUnavailable.
    """

    def __init__(self, files: Files, now: Callable[[], float] = time.time) -> None:
        self._now = now
        try:
            self._file = files.file(FILE, _read, missing=dict[str, ApiKey]())
        except OSError as error:
            raise StartupError(f"can't read {FILE}: {error}") from error

    def look(self) -> bool:
        """Whether others changed the file. Raises StartupError, OSError."""
        return self._file.look()

    def create(self, name: str, expires: float | None = None) -> tuple[ApiKey, str]:
        """A new key for the identity ``key:name``, and the secret text, which is kept nowhere."""
        if not _NAME.fullmatch(name):
            raise InvalidRequest.field(
                "name", 'must be 1 to 128 ASCII letters, digits and "._@-", the first a letter or digit'
            )
        now = self._now()
        if expires is not None and expires <= now:
            raise InvalidRequest.field("expire_time", "is over")
        number = secrets.token_hex(8)
        text = f"{PREFIX}{number}_{secrets.token_urlsafe(32)}"
        key = ApiKey(number, name, now, expires, _sha256(text))

        def add(keys: dict[str, ApiKey]) -> None:
            keys[number] = key
            if len(keys) > MAX_KEYS:
                raise InvalidRequest(f"there are {MAX_KEYS} keys: revoke some", reason="TOO_MANY")

        self._change(add)
        return key, text

    @property
    def sha256(self) -> str:
        """Of the file, hexadecimal; "": there is none."""
        return self._file.sha256

    def all(self) -> list[ApiKey]:
        """The oldest first."""
        self._file.check()
        return sorted(self._file.value.values(), key=lambda key: (key.created, key.id))

    def revoke(self, number: str) -> ApiKey:
        """From now on it is refused. Raises ApiKeyNotFound."""
        revoked: list[ApiKey] = []

        def take(keys: dict[str, ApiKey]) -> None:
            found = keys.pop(number, None)
            if found is None:
                raise ApiKeyNotFound(f"there is no key {number!r}")
            revoked[:] = [found]

        self._change(take)
        return revoked[0]

    def find(self, text: str) -> ApiKey | None:
        """The key of this text, if it is good now."""
        self._file.check()
        parts = _KEY.fullmatch(text)
        key = self._file.value.get(parts[1]) if parts else None
        if key is None or not hmac.compare_digest(key.sha256, _sha256(text)):
            return None
        return key if self.holds(key) else None

    def holds(self, key: ApiKey) -> bool:
        """Whether it is neither revoked nor over."""
        self._file.check()
        return self._file.value.get(key.id) == key and (key.expires is None or self._now() < key.expires)

    def _change(self, change: Callable[[dict[str, ApiKey]], None]) -> None:
        """What it makes of the keys is written, unless it raises."""

        def text(found: dict[str, ApiKey]) -> str:
            keys = dict(found)
            change(keys)
            return json.dumps({"keys": [asdict(key) for key in keys.values()]}, indent=1)

        try:
            self._file.change(text)
        except (OSError, StartupError) as error:
            raise ApiKeysBusy(error) from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path, data: bytes) -> dict[str, ApiKey]:
    try:
        keys = [ApiKey(**one) for one in json.loads(data)["keys"]]
        for key in keys:
            texts = isinstance(key.id, str) and isinstance(key.sha256, str) and _NAME.fullmatch(key.name)
            if not texts or not all(isinstance(time, int | float) for time in (key.created, key.expires or 0)):
                raise ValueError("a key that isn't one")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StartupError(f"{path}: is no file of API keys ({error})") from error
    return {key.id: key for key in keys}
