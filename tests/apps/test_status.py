"""The exit status tells whose fault it was: the arguments' (2), or the server's or the machine's (1)."""

import argparse
import errno

import pytest

from oneglance.client.sync_client import Client
from oneglance_apps.cli.commands import run_with_client


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EIO, 1), (errno.EFBIG, 1), (errno.ENOENT, 2), (errno.EACCES, 2)],
)
def test_a_full_disk_is_not_misuse(number: int, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work(client: Client) -> None:
        raise OSError(number, "as told", "out.mp4")

    options = argparse.Namespace(
        server="127.0.0.1:9", timeout=1.0, json=False, ca="", token_file="", client_cert="", client_key=""
    )
    assert run_with_client(options, work) == status
    assert "as told" in capsys.readouterr().err
