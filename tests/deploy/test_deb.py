"""The Debian package, with a stand-in for the server in it: installed into a folder by dpkg, removed, purged."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.build_deb import pack
from tests.deploy.tools import needs

pytestmark = [
    needs("dpkg-deb", "dpkg"),
    needs("systemd-sysusers", "systemd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dpkg installs as root only"),
]


def made(folder: Path) -> Path:
    python = folder / "tree/opt/oneglance/bin/oneglance"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    (folder / "tree/opt/oneglance/lib/__pycache__").mkdir(parents=True)
    return pack(folder / "tree", folder / "out", (3, 11))


def dpkg(root: Path, *arguments: str | Path) -> None:
    ours = ["dpkg", f"--root={root}", "--force-script-chrootless", "--force-depends", "--no-debsig"]
    done = subprocess.run([*ours, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "var/lib/dpkg/updates").mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "var/lib/dpkg/available").touch()
    return root


def test_the_same_sources_give_the_same_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert made(tmp_path / "1").read_bytes() == made(tmp_path / "2").read_bytes()


def test_installed_removed_and_purged(root: Path, tmp_path: Path) -> None:
    package = made(tmp_path)
    dpkg(root, "--install", package)
    assert (root / "usr/bin/oneglance").readlink() == Path("/opt/oneglance/bin/oneglance")
    assert "oneglance:" in (root / "etc/passwd").read_text()
    settings, key = root / "etc/oneglance/oneglance.toml", root / "etc/oneglance/master.key"
    assert settings.stat().st_mode & 0o777 == 0o640
    assert key.stat().st_mode & 0o777 == 0o600
    made_key = key.read_text()
    assert len(bytes.fromhex(made_key)) == 32
    settings.write_text('listen = "127.0.0.1:1"\n')
    verified(root)

    dpkg(root, "--install", package)
    assert key.read_text() == made_key
    assert settings.read_text() == 'listen = "127.0.0.1:1"\n'

    dpkg(root, "--remove", "oneglance")
    assert not (root / "opt/oneglance").exists()
    assert not (root / "usr/lib/systemd/system/oneglance.service").exists()
    assert settings.exists()
    dpkg(root, "--purge", "oneglance")
    assert not settings.exists()
    assert key.read_text() == made_key  # without it what is enrolled could never be read again


def test_the_settings_of_the_package_are_settings(tmp_path: Path) -> None:
    from oneglance_server.settings import load_settings

    settings = load_settings({}, Path(__file__).parents[2] / "deploy/debian/oneglance.toml")
    assert settings.data_dir == Path("/var/lib/oneglance")


def verified(root: Path) -> None:
    """``systemd-analyze verify`` finds nothing wrong with the unit; targets of systemd's own are not in this tree."""
    opt = root / "opt/oneglance/bin/oneglance"
    command = root / "usr/bin/oneglance"
    command.unlink()
    shutil.copy(opt, command)  # the link leads out of the tree
    told = _run(["systemd-analyze", "verify", "--man=no", f"--root={root}", "oneglance.service"])
    about = [line for line in told.splitlines() if "oneglance" in line and ".target" not in line]
    assert not about, told
    command.unlink()
    command.symlink_to("/opt/oneglance/bin/oneglance")


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr
