"""kill -9 at random moments under concurrent writers: whatever was acknowledged holds after every restart.

Four rounds by default, for tests/index/test_kill.py has more; for the long run:

    ONEGLANCE_KILL_ROUNDS=200 pytest tests/server/test_kill.py -s
"""

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoding
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS, until

ROUNDS = int(os.environ.get("ONEGLANCE_KILL_ROUNDS", "4"))
WRITERS = 4
SUBJECTS = 25  # of each writer
MOST_CALLS = 400  # acknowledged before a kill
MOMENT_SECONDS = 0.01  # at most, from the last of them to the kill: so that it may fall anywhere
D = 64

Values = tuple[float, ...]


@dataclass
class Writer:
    """One client thread with subjects of its own, and what it may rely on.

    ``acknowledged``: the encodings of each subject after its last acknowledged call. ``attempted``: what they become
    if the call under way was carried out.
    """

    number: int
    acknowledged: dict[str, list[Values]] = field(default_factory=dict)
    attempted: dict[str, list[Values]] | None = None
    calls: int = 0

    def write_until_killed(self, address: str, digest: str, seed: int) -> None:
        rng = np.random.default_rng([seed, self.number])
        with Client(address, timeout_seconds=PATIENCE_SECONDS) as client:
            try:
                while True:
                    self._one_call(client, digest, rng)
                    self.calls += 1
            except OneglanceError as error:
                if error.code.name not in ("UNAVAILABLE", "CANCELLED", "UNKNOWN"):
                    raise

    def _one_call(self, client: Client, digest: str, rng: np.random.Generator) -> None:
        subject = f"w{self.number}-{rng.integers(SUBJECTS)}"
        after = dict(self.acknowledged)
        if subject in after and rng.random() < 0.35:
            del after[subject]
            self.attempted = after
            client.delete_subject("g", subject)
        else:
            new = [tuple(row.tolist()) for row in rng.standard_normal((rng.integers(1, 4), D)).astype(np.float32)]
            replace = rng.random() < 0.5
            after[subject] = new if replace else after.get(subject, []) + new
            self.attempted = after
            points = [encoding(values, digest) for values in new]
            client.enroll("g", subject, *points, on_existing="replace" if replace else "add")
        self.acknowledged, self.attempted = after, None

    def check(self, client: Client, stored: dict[str, int], digest: str) -> None:
        """Every subject is as acknowledged, or as the call under way at the kill would have left it."""
        mine = {name: count for name, count in stored.items() if name.startswith(f"w{self.number}-")}
        states = [self.acknowledged] + ([self.attempted] if self.attempted is not None else [])
        fitting = [state for state in states if {name: len(rows) for name, rows in state.items()} == mine]
        assert fitting, f"stored {mine}, acknowledged {self.acknowledged.keys()}"
        # Same counts, other values: a replace that was or was not carried out.
        for state in fitting:
            probes = [(name, row) for name, rows in state.items() for row in rows]
            if not probes:
                break
            answer = client.identify("g", *(encoding(row, digest) for _, row in probes), max_candidates=1, tau=0)
            if [result.subject_id for result in answer.results] == [name for name, _ in probes]:
                break
        else:
            pytest.fail("an acknowledged encoding is not found at distance 0")
        self.acknowledged, self.attempted = state, None


def damage(snapshots: Path, rng: random.Random) -> str:
    """Truncate the newest snapshot or flip a bit of it; says what it did."""
    files = sorted(snapshots.glob("**/*.snap"), key=lambda path: path.stat().st_mtime)
    if not files or rng.random() < 0.4:
        return "left alone"
    content = bytearray(files[-1].read_bytes())
    if rng.random() < 0.5:
        files[-1].write_bytes(content[: rng.randrange(len(content))])
        return "truncated"
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    files[-1].write_bytes(content)
    return "bit flipped"


def test_what_was_acknowledged_survives_kill_9(models: tuple[Path, Path], tmp_path: Path) -> None:
    rng = random.Random(20261122)
    writers = [Writer(number) for number in range(WRITERS)]
    done: dict[str, int] = {}
    for round_number in range(ROUNDS + 1):
        with ServerProcess(tmp_path, models=models[0], snapshot_every=40, log_level="error") as server:
            with Client(server.address) as client:
                if round_number == 0:
                    client.create_gallery("g", fusion="nearest")
                digest = client.get_gallery("g").encoder_digest
                stored = {subject.id: len(subject.encodings) for subject in client.list_subjects("g")}
                for writer in writers:
                    writer.check(client, stored, digest)
                gallery = client.get_gallery("g")
                assert (gallery.subject_count, gallery.encoding_count) == (len(stored), sum(stored.values()))
            if round_number == ROUNDS:
                break
            threads = [
                threading.Thread(target=writer.write_until_killed, args=(server.address, digest, round_number))
                for writer in writers
            ]
            for thread in threads:
                thread.start()
            enough = sum(writer.calls for writer in writers) + rng.randrange(1, MOST_CALLS)
            until(lambda enough=enough: sum(writer.calls for writer in writers) >= enough)  # type: ignore[misc]
            time.sleep(rng.uniform(0, MOMENT_SECONDS))
            server.kill()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
                assert not thread.is_alive()
        how = damage(tmp_path / "snapshots", rng)
        done[how] = done.get(how, 0) + 1
    calls = sum(writer.calls for writer in writers)
    assert calls > ROUNDS
    print(f"\n{ROUNDS} kills under {WRITERS} writers, {calls} acknowledged calls, all there; snapshots: {done}")
