"""An output that runs a command for each event."""

import asyncio
import contextlib
import os
import signal

from oneglance_apps.watch.outbox import NotReached, NotTaken
from oneglance_apps.watch.records import AppearanceRecord, Record


class Command:
    """Runs ``words``, without a shell, once per event: the event is its standard input, as one line of JSON.

    ONEGLANCE_KIND and ONEGLANCE_SUBJECT_ID (empty: nobody) are in its environment. What it prints goes to standard
    error. Exit status 0 means that it took the event. When it takes too long it is killed, with its children.
    """

    def __init__(self, words: list[str]) -> None:
        if not words:
            raise ValueError("no command to run")
        self._words = words
        self.name = f"command {words[0]}"  # the arguments may hold secrets

    async def send(self, record: Record, left: float) -> None:
        subject = record.subject_id if isinstance(record, AppearanceRecord) else None
        environment = {**os.environ, "ONEGLANCE_KIND": record.kind, "ONEGLANCE_SUBJECT_ID": subject or ""}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words, stdin=asyncio.subprocess.PIPE, stdout=2, env=environment, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise NotReached(getattr(error, "strerror", None) or str(error)) from error
        try:
            await process.communicate(record.model_dump_json().encode() + b"\n")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise NotTaken(f"exit status {process.returncode}")

    async def close(self) -> None:
        pass
