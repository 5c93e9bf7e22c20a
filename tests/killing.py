"""A process that is killed, of which what it wrote before is read: forked from one that has imported all it needs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import BinaryIO

_PRELOADED = ["oneglance_index", "tests.thief", "tests.ways_to_delete"]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(_PRELOADED)


class Child:
    """`said`: what the process writes to its standard output."""

    def __init__(self, process: multiprocessing.process.BaseProcess, said: BinaryIO) -> None:
        self._process = process
        self.said = said

    def kill(self) -> list[bytes]:
        """By SIGKILL. The lines that weren't read before; one that was cut off is left out."""
        self._process.kill()
        self._process.join()
        return [line for line in self.said.readlines() if line.endswith(b"\n")]


@contextmanager
def running(work: Callable[..., None], *arguments: object) -> Iterator[Child]:
    """`work`, a function of a module, in a process of its own, which is killed at the block's end."""
    reader, writer = _server.Pipe(duplex=False)
    process = _server.Process(target=_run, args=(writer, work, arguments))
    process.start()
    writer.close()
    with os.fdopen(os.dup(reader.fileno()), "rb") as said:
        reader.close()
        child = Child(process, said)
        try:
            yield child
        finally:
            child.kill()
            process.close()


def _run(writer: Connection, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.dup2(writer.fileno(), 1)
    writer.close()
    work(*arguments)
