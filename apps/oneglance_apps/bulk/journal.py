"""What was enrolled from this machine into a gallery, by content, so that a second run changes nothing.

A file of the user's for each gallery. One line of JSON before a photo is sent, with the request id it is sent with, and
one when the server has answered. After a kill -9 in between the photo is sent with that id again: the server, which
keeps its answers for 24 hours, enrolls it once.
"""

import fcntl
import hashlib
import json
import os
import threading
import uuid
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

from oneglance.v1.gallery_pb2 import Gallery

Key = tuple[str, str]  # subject, digest


class JournalInUse(OSError):
    """Another run writes it."""


def journal_file(gallery: Gallery) -> Path:
    """Of a gallery, by whatever address it is reached. One that is made anew has another."""
    from platformdirs import user_state_path  # takes as long to load as all the rest of this package

    made = f"{gallery.id}\n{gallery.create_time.ToNanoseconds()}"
    return user_state_path("oneglance") / "bulk-enroll" / f"{hashlib.sha256(made.encode()).hexdigest()[:32]}.jsonl"


class Journal:
    """``with Journal(file, write=True) as journal``. Without ``write`` nothing is made or changed on disk.

    Raises OSError; JournalInUse.
    """

    def __init__(self, file: Path, *, write: bool) -> None:
        self._encodings: dict[Key, list[str]] = defaultdict(list)
        self._sent: dict[Key, str] = {}
        self._lock = threading.Lock()
        self._file = _open_to_append(file) if write else None
        if file.is_file():
            self._read(file.read_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)

    def encodings(self, subject: str, digest: str) -> list[str]:
        """The ids of those that were made of this content before this run."""
        return self._encodings.get((subject, digest), [])

    def send(self, subject: str, digest: str) -> str:
        """Note that a photo is being sent. Returns the request id: that of the time before, if it was not answered."""
        request_id = self._sent.get((subject, digest)) or f"bulk-enroll-{uuid.uuid4()}"
        self._write({"subject": subject, "digest": digest, "sent": request_id})
        return request_id

    def answered(self, subject: str, digest: str, encoding_id: str) -> None:
        """Note the encoding that was made of it; ``""``: it was refused."""
        self._write({"subject": subject, "digest": digest, "encoding": encoding_id})

    def _write(self, line: dict[str, str]) -> None:
        with self._lock:
            if self._file is not None:
                os.write(self._file, json.dumps(line).encode() + b"\n")

    def _read(self, content: bytes) -> None:
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                key = entry["subject"], entry["digest"]
            except (ValueError, TypeError, KeyError):  # half a line, of a run that was killed
                continue
            if "sent" in entry:
                self._sent[key] = entry["sent"]
            else:
                self._sent.pop(key, None)
                if entry.get("encoding"):
                    self._encodings[key].append(entry["encoding"])


def _open_to_append(file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (size := os.fstat(descriptor).st_size) and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
    except BlockingIOError:
        os.close(descriptor)
        raise JournalInUse("another bulk-enroll into this gallery is under way: wait for its end") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
