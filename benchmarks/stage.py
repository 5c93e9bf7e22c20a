"""What attacks and overload are tried on: a server with a large and a small gallery of the encoder ``glyphs``, which
servers of earlier checkouts have, too."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.attackers import LARGE, SMALL, Target
from oneglance import Client, encoding, enroll_request
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_core.folder import read_any_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER
from tests.pictures import png
from tests.running import ServerProcess

GLYPHS = BUNDLED_MODEL.parent / "glyphs"
DIMENSION = 128
_MODELS = f"{GLYPHS}:{BUNDLED_STYLIZER}"
SMALL_SUBJECTS = 1000


@dataclass(frozen=True)
class Side:
    """One of the servers compared. ``checkout``: None: this one's."""

    name: str
    checkout: Path | None


def sides(before: Path | None) -> list[Side]:
    return [*([Side("before", before)] if before else []), Side("now", None)]


class Stage:
    """A data folder with both galleries, filled once; every server gets a copy of its own.

    kept: where the filled folder stays for the next run; None: nowhere. checkout: whose server fills it: that of the
    older one, whose files the newer must read. ``scratch``: removed in the end.
    """

    def __init__(self, kept: Path | None, rows: int, checkout: Path | None) -> None:
        self._temporary = tempfile.TemporaryDirectory()
        self.scratch = Path(self._temporary.name)
        self._original = (kept or self.scratch) / f"filled-{rows}"
        self._copies = 0
        if not self._original.exists():
            self._fill(rows, checkout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    def _fill(self, rows: int, checkout: Path | None) -> None:
        filling, log = self.scratch / "filling", self.scratch / "filling.log"
        with ServerProcess(filling, log=log, checkout=checkout, models=_MODELS, log_level="error") as server:
            with Client(server.address, timeout_seconds=600) as client:
                for gallery, count in ((LARGE, rows), (SMALL, SMALL_SUBJECTS)):
                    digest = client.create_gallery(gallery, encoder=GLYPHS.name).encoder_digest
                    for response in client.bulk_enroll(_people(gallery, count, digest)):
                        assert not response.HasField("error"), response.error
            server.terminate()
        shutil.copytree(filling, self._original)

    def serve(self, side: Side, *, log: Path | None = None, **settings: Any) -> ServerProcess:
        """A fresh server on a fresh copy."""
        self._copies += 1
        data = self.scratch / f"copy-{self._copies}"
        shutil.copytree(self._original, data)
        log = log or self.scratch / f"{side.name}.log"
        settings = {"models": _MODELS, "log_level": "error", **settings}
        return ServerProcess(data, log=log, checkout=side.checkout, **settings)

    def clear(self) -> None:
        """Remove the copies."""
        for copy in self.scratch.glob("copy-*"):
            shutil.rmtree(copy)


def target(server: ServerProcess, hold_seconds: float) -> Target:
    with Client(server.address, timeout_seconds=60) as client:
        digest = client.get_gallery(SMALL).encoder_digest
    style = read_any_model_folder(BUNDLED_STYLIZER).manifest.styles[0].name
    return Target(server.address, digest, DIMENSION, style, drawings(1)[0], hold_seconds)


def drawings(count: int) -> list[bytes]:
    """Characters of 105 x 105 pixels, as PNG."""
    return [png(subject.drawings[0]) for subject in alphabet(seed=1, characters=count, drawings=1)]


def _people(gallery: str, count: int, digest: str) -> Iterator[EnrollRequest]:
    rng = np.random.default_rng(0)
    for i in range(count):
        row = rng.standard_normal(DIMENSION).astype(np.float32)
        yield enroll_request(gallery, f"s{i}", [encoding(row / np.linalg.norm(row), digest)])
