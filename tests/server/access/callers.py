"""Servers with a policy, and callers with credentials."""

import json
from collections.abc import Sequence
from pathlib import Path

from oneglance_server.access.api_keys import ApiKeys
from oneglance_server.shared_files import LocalFiles

GRANT = """
[[grant]]
to = {to}
galleries = {galleries}
rights = {rights}
"""


def grant(to: Sequence[str], galleries: Sequence[str], rights: Sequence[str]) -> str:
    """Of a policy file."""
    return GRANT.format(to=json.dumps(to), galleries=json.dumps(galleries), rights=json.dumps(rights))


ADMIN = grant(["key:admin"], ["*"], ["*"])


def key_of(data_dir: Path, name: str) -> str:
    """A new API key of a data directory, whether or not a server has it open."""
    data_dir.mkdir(mode=0o700, exist_ok=True)
    return ApiKeys(LocalFiles(data_dir)).create(name)[1]
