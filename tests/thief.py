"""A thief who has the master key, every byte of a data directory, and every ciphertext that ever was made for it.

So he knows more than what the write-ahead log, free pages, gaps of pages or a half-written copy could tell him of
ciphertexts. What he lacks are keys. He takes them wherever they are: from all key files, those of a restore, of a
conversion, or of what was moved aside included, and from any other file in which a record or a slot is found that he
has seen in a key file before, a database that has the key files of a backup in it, say.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_LENGTHS = struct.Struct("<II16s")  # of a ciphertext, of what it belongs to; and the mark of its key
_NOTHING = bytes(12)


def _mark(key: Any) -> bytes:
    """What tells a key from all others, but not what it is: so that the thief need not try each with each."""
    mark: bytes = key.encrypt(_NOTHING, b"", b"the mark of a key")
    return mark


@contextmanager
def recording(ciphertexts: Path) -> Iterator[None]:
    """Writes down each ciphertext that this process makes, and what it belongs to, before it is anywhere else."""
    try:
        from oneglance_index.store import ciphers
    except ImportError:  # a build that encrypts nothing
        yield
        return
    real = ciphers.encrypt
    modules = [module for module in [*sys.modules.values()] if getattr(module, "encrypt", None) is real]
    file = os.open(ciphertexts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def encrypt(key: Any, content: bytes, identity: bytes) -> bytes:
        sealed: bytes = real(key, content, identity)
        os.write(file, _LENGTHS.pack(len(sealed), len(identity), _mark(key)) + sealed + identity)
        return sealed

    for module in modules:
        module.encrypt = encrypt  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.encrypt = real  # type: ignore[attr-defined]
        os.close(file)


class Thief:
    """`ciphertexts`: where they are written down. `cells`: what he has of the cells of a disk, too: "slots", "records",
    those that he has seen, though they were overwritten since."""

    def __init__(self, data_dir: Path, ciphertexts: Path) -> None:
        self._data_dir = data_dir
        self._ciphertexts = ciphertexts
        self.cells: set[str] = set()
        self._read = 0
        self._sealed: defaultdict[bytes, list[tuple[bytes, bytes]]] = defaultdict(list)  # by the mark of the key
        self._seen = _KeyFiles()

    def look(self) -> None:
        """At the key files. The store may be open."""
        for path, content in self._files():
            self._seen.add(path, content)

    def loot(self) -> bytes:
        """All that he can make out: what is there in the clear, and what he can decrypt."""
        files = list(self._files())
        self._read_ciphertexts()
        if self._sealed:
            for key in self._keys(files):
                files += [(self._data_dir, content) for content in self._try(key)]
        return b"\0".join(content for _, content in files)

    def of(self, secrets: Mapping[str, tuple[bytes, ...]]) -> set[str]:
        """Of which of these subjects he can rebuild anything."""
        loot = self.loot()
        return {name for name, parts in secrets.items() if any(part in loot for part in parts)}

    def _files(self) -> Iterator[tuple[Path, bytes]]:
        for path in sorted(self._data_dir.rglob("*")):
            try:
                content = path.read_bytes()
            except (FileNotFoundError, IsADirectoryError):  # removed just now, or a folder
                continue
            yield path, content if content.strip(b"\0") else b""  # the reserve

    def _read_ciphertexts(self) -> None:
        content = self._ciphertexts.read_bytes() if self._ciphertexts.exists() else b""
        while len(content) >= self._read + _LENGTHS.size:
            start = self._read + _LENGTHS.size
            sealed, identity, mark = _LENGTHS.unpack(content[self._read : start])
            if len(content) < start + sealed + identity:  # somebody was killed here
                break
            self._read = start + sealed + identity
            self._sealed[mark].append((content[start : start + sealed], content[start + sealed : self._read]))

    def _keys(self, files: list[tuple[Path, bytes]]) -> set[bytes]:
        """All content keys that he can get at."""
        from oneglance_index.store.slots import ecb

        now = _KeyFiles()
        others = b"\0".join(content for path, content in files if not now.add(path, content))
        for kind, seen in self._seen.kinds.items():
            known = set[bytes]().union(*seen.values())
            there = known if kind in self.cells else _found(known, others)
            for gallery, own in seen.items():
                now.kinds[kind][gallery] |= own & there
        found = set()
        for gallery, records in now.kinds["records"].items():
            for key in self._gallery_keys(gallery, records):
                found.update(_cut(ecb(key).decryptor().update(b"".join(now.kinds["slots"][gallery])), 32))
        return found

    def _gallery_keys(self, gallery: int, records: set[bytes]) -> Iterator[bytes]:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        from oneglance_index.store.keys import _CONTENT, _NONCE_BYTES, _aad

        for path in self._data_dir.glob("master.key*"):
            for record in records:
                try:
                    master = AESGCM(bytes.fromhex(path.read_text()))
                    content = master.decrypt(record[:_NONCE_BYTES], record[_NONCE_BYTES:], _aad(gallery))
                except (InvalidTag, ValueError):
                    continue
                yield _CONTENT.unpack(content)[0]

    def _try(self, key: bytes) -> list[bytes]:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        from oneglance_index.store.ciphers import decrypt

        cipher = AESGCM(key)
        tried = (decrypt(cipher, *one) for one in self._sealed.get(_mark(cipher), ()))
        return [content for content in tried if content is not None]


class _KeyFiles:
    """By kind, "records" and "slots", and by gallery: what was seen in key files, encrypted."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[int, set[bytes]]] = {"records": defaultdict(set), "slots": defaultdict(set)}

    def add(self, path: Path, content: bytes) -> bool:
        """Whether it is a file of keys."""
        if path.name == "galleries":
            from oneglance_index.store.keys import _RECORD_BYTES, _SEALED_BYTES

            for gallery, record in enumerate(_cut(content, _RECORD_BYTES)):
                self.kinds["records"][gallery].add(record[:_SEALED_BYTES])
            return True
        if path.suffix == ".slots":
            self.kinds["slots"][int(path.name.split("-")[0])].update(_cut(content, 32))
            return True
        return False


def _found(known: Collection[bytes], content: bytes) -> set[bytes]:
    """Which of these, all of one length, are anywhere in the content."""
    found: set[bytes] = set()
    if not known:
        return found
    (size,) = {len(one) for one in known}
    begin = np.unique(np.frombuffer(b"".join(one[:8] for one in known), "<u8"))
    for shift in range(8):
        words = (
            np.frombuffer(content, "<u8", max(0, len(content) - shift) // 8, shift)
            if len(content) > shift
            else begin[:0]
        )
        places = np.searchsorted(begin, words)
        hits = np.flatnonzero(begin[np.minimum(places, len(begin) - 1)] == words)
        found.update(content[at : at + size] for at in (8 * hits + shift).tolist())
    return found.intersection(known)


def _cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content) - size + 1, size)]


Patch = Callable[[object, str, object], None]


def keep_keys(patch: Patch = setattr) -> None:
    """Destroys no key any more: what the test must find out."""
    from oneglance_index.store import database, keys, slots

    patch(slots.Slots, "_renew", lambda self, slots, alone: None)
    patch(keys.Keys, "destroy", lambda self, gallery: self._destroyed.add(gallery))
    patch(keys.Keys, "keep_only", lambda self, galleries, last: None)
    patch(database.Store, "rotate_key", lambda self, gallery: None)
    patch(database.Store, "rotate_master_key", lambda self: None)
