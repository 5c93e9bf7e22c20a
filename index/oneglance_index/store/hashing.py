"""The hash that seals a store's rows: 64 bits of BLAKE2b, with a key of the store.

The key is made from the seed in `keys/galleries`, which is encrypted with the master key. So who can write the database
but has no master key can't make a seal.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32

Hash = Callable[[bytes], int]


def seal_key(seed: bytes) -> bytes:
    """From the seed of a store (Keys.signing_seed)."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"oneglance seals").derive(seed)


class Hashes(dict[str, Hash]):
    """The hash for each kind of content: of bytes, a signed integer of 64 bits. `key`: b"" for none."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def __missing__(self, kind: str) -> Hash:
        # Copying a state that has its parameters is quicker than giving them.
        begin = blake2b(digest_size=8, key=self._key, person=kind.encode()).copy

        def hashed(content: bytes) -> int:
            state = begin()
            state.update(content)
            return int.from_bytes(state.digest(), "little", signed=True)

        self[kind] = hashed
        return hashed
