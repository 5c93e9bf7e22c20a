"""Signed receipts of deletions: who or what was deleted from which store, when, and how long copies may have it.

A receipt is one line of text: JSON and an Ed25519 signature of it, each in URL-safe base64, with a point between. The
private key is made with the store and encrypted with the master key (keys.py); the public one is in `receipts.pub` of
the data directory, 64 hexadecimal digits, for whoever checks receipts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from oneglance_core.files import replacing
from oneglance_index.errors import ReceiptInvalid
from oneglance_index.store.disk import disk_error

PUBLIC_NAME = "receipts.pub"
METHOD = "the keys that it was encrypted with were overwritten"


class Receipts:
    """Signs receipts of the store `store_id`. `backup_seconds`: how long a backup is kept; `engine_seconds`: how long
    an engine may have copies; 0 where nobody said."""

    def __init__(self, seed: bytes, store_id: str, backup_seconds: float, engine_seconds: float = 0.0) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._store_id = store_id
        self._backup_seconds, self._engine_seconds = backup_seconds, engine_seconds

    def publish(self, data_dir: Path) -> None:
        """Writes the public key, if it isn't there. Raises StoreFull, StoreIOError."""
        path = data_dir / PUBLIC_NAME
        content = self._key.public_key().public_bytes_raw().hex() + "\n"
        try:
            if not path.exists() or path.read_text(encoding="ascii", errors="replace") != content:
                with replacing(path) as fresh:
                    fresh.write_text(content, encoding="ascii")
        except OSError as error:
            raise disk_error(error, path) from error

    def sign(self, what: str, gallery_id: str, revision: int, **more: object) -> str:
        """`what` was deleted just now; `revision` is the gallery's afterwards."""
        now = datetime.now(UTC)
        content = {
            "deleted": what,
            "store": self._store_id,
            "gallery": gallery_id,
            **more,
            "revision": revision,
            "time": now.isoformat(timespec="milliseconds"),
            "in_backups_until": _after(now, self._backup_seconds) if self._backup_seconds else None,
            **({"in_engine_until": _after(now, self._engine_seconds)} if self._engine_seconds else {}),
            "method": METHOD,
        }
        signed = _encoded(json.dumps(content, ensure_ascii=False).encode())
        return f"{signed}.{_encoded(self._key.sign(signed.encode()))}"


def verify_receipt(receipt: str, public_key: str) -> Mapping[str, Any]:
    """What a receipt says. `public_key`: 64 hexadecimal digits. Raises ReceiptInvalid."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    except ValueError:
        raise ReceiptInvalid("the public key isn't 64 hexadecimal digits") from None
    signed, point, signature = receipt.strip().partition(".")
    try:
        key.verify(_decoded(signature), signed.encode())
        content = json.loads(_decoded(signed))
    except (InvalidSignature, ValueError):
        content = None
    if not point or not isinstance(content, dict):
        raise ReceiptInvalid("it isn't a receipt that was signed with this key")
    return content


def _after(now: datetime, seconds: float) -> str:
    return (now + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
