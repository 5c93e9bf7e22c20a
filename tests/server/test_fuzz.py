"""A sample of hostile messages for every RPC; ``python -m tests.fuzz --messages 200000 --seed N`` for the long run."""

import asyncio
from pathlib import Path
from typing import Any

from oneglance import Client
from tests.fuzz.cases import Cases
from tests.fuzz.drive import Findings, drive
from tests.fuzz.log import errors_in
from tests.fuzz.seeds import GALLERIES, make_seeds, make_world, restore, write_models
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS

MESSAGES = 2000


def test_hostile_messages_are_refused_and_the_server_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    findings = Findings()
    settings: dict[str, Any] = {
        "models": write_models(tmp_path),
        "backup_dir": str(tmp_path / "backups"),
        "log_level": "error",
    }
    with ServerProcess(tmp_path / "data", log=log, **settings) as server:
        with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            digests = restore(client)
            cases = Cases(1, make_seeds(digests), make_world(digests))
            asyncio.run(drive(cases, server.address, findings, messages=MESSAGES, at_once=8))
            assert restore(client).keys() == GALLERIES.keys()
        assert server.terminate()[0] == 0
    assert [(outcome.case.number, outcome.case.path, outcome.wrong) for outcome in findings.wrong] == []
    assert not errors_in(log.read_text())
    assert findings.codes["OK"] > MESSAGES / 20  # good messages are among them
