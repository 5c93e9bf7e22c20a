"""The hash that seals a store's rows: 64 bits of BLAKE2b, with a key of the store.

The key is made from the seed in `keys/galleries`, which is encrypted with the master key. So who can write the database
but has no master key can't make a seal.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from hashlib import blake2b, sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
Buffer = bytes | memoryview

_SNAPSHOTS = b"oneglance snapshots"

Hash = Callable[[bytes], int]


def seal_key(seed: bytes) -> bytes:
    """From the seed of a store (Keys.signing_seed)."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"oneglance seals").derive(seed)


def snapshot_digest(seed: bytes, generation: int, contents: Iterable[Buffer]) -> str:
    """Of what is not encrypted in a snapshot of a generation, one after the other: 64 hexadecimal digits."""
    key = HKDF(SHA256(), KEY_BYTES, salt=None, info=_SNAPSHOTS).derive(seed)
    hashed = hmac.new(key, b"%d " % generation, sha256)
    for content in contents:
        hashed.update(content)
    return hashed.hexdigest()


class Hashes(dict[str, Hash]):
    """The hash for each kind of content: of bytes, a signed integer of 64 bits. `key`: b"" for none, as version 6 had.
    `required`: whether the store has been sealed with a key, so that a database that says that it isn't lies."""

    def __init__(self, key: bytes, required: bool = True) -> None:
        super().__init__()
        self._key = key
        self.keyed, self.required = bool(key), required

    def __missing__(self, kind: str) -> Hash:
        # Copying a state that has its parameters is quicker than giving them.
        begin = blake2b(digest_size=8, key=self._key, person=kind.encode()).copy

        def hashed(content: bytes) -> int:
            state = begin()
            state.update(content)
            return int.from_bytes(state.digest(), "little", signed=True)

        self[kind] = hashed
        return hashed
