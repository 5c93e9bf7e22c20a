"""Token and TLS of a real Milvus, through `oneglance serve`: who is let in, what others read, and how both change while
it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from oneglance import Client, OneglanceError
from tests.index.milvus.engine import Engine, installation, why_not
from tests.pictures import picture
from tests.running import ServerProcess
from tests.server.access.test_tls import Authority
from tests.waiting import until

pymilvus: Any = pytest.importorskip("pymilvus")
pytestmark = pytest.mark.timeout(600)
MUTUAL = "2"  # Milvus's tlsMode: it asks for a certificate, too
# As they are in a new Milvus, and others.
USER, PASSWORD, ANOTHER = "root", "Milvus", "another-secret"


class Guarded(NamedTuple):
    """A Milvus that wants a token and TLS. In `folder` are certificates of its authority, `ours`, and of `theirs`."""

    engine: Engine
    ours: Authority
    theirs: Authority
    folder: Path
    mode: str

    def settings(self, **changed: object) -> dict[str, Any]:
        """Of a server that is let in, but for what is changed."""
        (self.folder / "token").write_text(f"{USER}:{PASSWORD}\n")
        shutil.copyfile(self.ours.ca, self.folder / "ca")
        own = {"galleries_cert": "oneglance.crt", "galleries_key": "oneglance.key"} if self.mode == MUTUAL else {}
        files = {"galleries_ca": "ca", **own, **changed}
        return {
            "galleries": f"milvus+tls://localhost:{self.engine.port}/default",
            "galleries_token": f"file:{self.folder}/token",
            **{name: self.folder / str(file) if name in _FILES and file else file for name, file in files.items()},
        }

    def client(self, password: str = PASSWORD, authority: Authority | None = None) -> Any:
        shown: dict[str, object] = {"server_pem_path": (authority or self.ours).ca}
        if self.mode == MUTUAL:
            names = "client_pem_path", "client_key_path"
            shown = {name: self.folder / f"oneglance.{end}" for name, end in zip(names, ("crt", "key"), strict=True)}
            shown["ca_pem_path"] = (authority or self.ours).ca
        return pymilvus.MilvusClient(
            uri=f"https://localhost:{self.engine.port}", token=f"{USER}:{password}", dedicated=True, timeout=30, **shown
        )

    def rows(self, **shown: Any) -> int:
        """So many rows of somebody's are at the Milvus; 0 while they can't be asked for, too."""
        client = self.client(**shown)
        try:
            found = [client.query(name, filter="number >= 0", limit=10) for name in client.list_collections()]
            return sum(map(len, found))
        except pymilvus.MilvusException:  # a collection that isn't loaded yet
            return 0
        finally:
            client.close()


_FILES = ("galleries_ca", "galleries_cert", "galleries_key")


@pytest.fixture(params=["1", MUTUAL], ids=["of-the-server", "mutual"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path / "guarded"
    folder.mkdir()
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    ours.sign("milvus", "localhost")
    ours.sign("oneglance")
    theirs.sign("stranger")
    engine = Engine(
        installation(tmp_path / "installed"),
        folder / "engine",
        authorizationEnabled="true",
        tlsMode=request.param,
        serverPemPath=f"{folder}/milvus.crt",
        serverKeyPath=f"{folder}/milvus.key",
        caPemPath=str(ours.ca),
    )
    yield Guarded(engine, ours, theirs, folder, request.param)
    engine.close()


def test_who_shows_the_token_is_let_in(guarded: Guarded, models: tuple[Path, Path], tmp_path: Path) -> None:
    settings = guarded.settings(models=models[0])
    with ServerProcess(tmp_path / "data", **settings) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "it", picture(1))
        client.enroll("g", "stays", picture(2))
        until(lambda: guarded.rows() == 2)
        assert client.identify("g", picture(1), tau=0.01).results[0].subject_id == "it"
        client.delete_subject("g", "it")
        assert client.identify("g", picture(1), tau=0.01).results[0].subject_id == ""
        until(lambda: guarded.rows() == 1)
        assert server.terminate()[0] == 0
    with ServerProcess(tmp_path / "data", **settings) as server, Client(server.address) as client:
        assert client.identify("g", picture(2), tau=0.01).results[0].subject_id == "stays"


def refusals(data: Path, cases: dict[str, dict[str, object]]) -> dict[str, str]:
    """What an operator reads of starts that must fail, all at once: in words, no trace, and no secret."""
    serve = [sys.executable, "-m", "oneglance_apps.cli", "serve", "--listen=127.0.0.1:0", "--models="]
    started = {}
    for case, settings in cases.items():
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if value]
        started[case] = subprocess.Popen(
            [*serve, f"--data-dir={data / case}", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    told = {}
    for case, process in started.items():
        said, complained = process.communicate(timeout=300)
        assert (process.returncode, said) == (1, "")
        assert "Traceback" not in complained
        assert PASSWORD not in complained.replace("Milvus's", "")
        assert ANOTHER not in complained
        (told[case],) = [line for line in complained.splitlines() if line.startswith("oneglance serve: ")]
    return told


def test_who_is_not_let_in_reads_why(guarded: Guarded, tmp_path: Path) -> None:
    tokens = {"wrong": f"{USER}:{ANOTHER}", "nobody": f"nobody:{ANOTHER}", "key": ANOTHER}
    for name, token in tokens.items():
        (guarded.folder / name).write_text(token)
    (guarded.folder / "rubbish").write_text("no certificate")
    port = guarded.engine.port
    refused = "it refuses the token, or wants one"
    nowhere: dict[str, object] = dict.fromkeys((*_FILES, "galleries_token"))
    cases: dict[str, tuple[dict[str, object], str]] = {
        **{name: ({"galleries_token": f"file:{guarded.folder / name}"}, refused) for name in tokens},
        "no-token": ({"galleries_token": None}, refused),
        "no-file-of-a-token": ({"galleries_token": "env:NOT_THERE"}, "its token can't be read from env:NOT_THERE"),
        "another-authority": ({"galleries_ca": "theirs.pem"}, "its certificate isn't from the authority"),
        "rubbish": ({"galleries_ca": "rubbish"}, "rubbish: "),
        "no-such-file": ({"galleries_ca": "nothing"}, "nothing: "),
        "another-name": (
            {"galleries": f"milvus+tls://127.0.0.1:{port}/default"},
            "its certificate is for another name",
        ),
        "no-tls": (
            {**nowhere, "galleries": f"milvus://localhost:{port}/default"},
            "perhaps it wants TLS (milvus+tls://)",
        ),
        "no-database": ({"galleries": f"milvus+tls://localhost:{port}/people"}, "database not found"),
    }
    if guarded.mode == MUTUAL:
        no_certificate: dict[str, object] = {"galleries_cert": None, "galleries_key": None}
        stranger: dict[str, object] = {"galleries_cert": "stranger.crt", "galleries_key": "stranger.key"}
        cases |= {
            "no-certificate": (no_certificate, "perhaps it asks for a certificate"),
            "a-stranger": (stranger, "perhaps it asks for a certificate of its own authority"),
            "key-of-another": ({"galleries_key": "stranger.key"}, "stranger.key: "),
        }
    else:
        cases["public-authority"] = ({"galleries_ca": None}, "its certificate isn't from the authority")
    told = refusals(tmp_path, {name: guarded.settings(**changed) for name, (changed, _) in cases.items()})
    wrong = {name: told[name] for name, (_, expected) in cases.items() if expected not in told[name]}
    assert not wrong


def test_tls_against_a_milvus_without_is_refused(milvus: Engine, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    tls = {"galleries": f"milvus+tls://localhost:{milvus.port}/default", "galleries_ca": authority.ca}
    told = refusals(tmp_path, {"tls": tls})
    assert "perhaps it is without TLS (milvus://)" in told["tls"]


def answered(client: Client, subject: str, number: int) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            return client.identify("g", picture(number), tau=0.01).results[0].subject_id == subject
        except OneglanceError as error:
            if error.reason != "ENGINE_UNAVAILABLE":
                raise
            return False

    return asked


def test_both_may_change_while_it_runs(guarded: Guarded, models: tuple[Path, Path], tmp_path: Path) -> None:
    settings = guarded.settings(models=models[0])
    log = tmp_path / "log"
    with ServerProcess(tmp_path / "data", log=log, **settings) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "one", picture(1))
        until(lambda: guarded.rows() == 1)
        # Milvus begins again: the token is shown to it, too.
        guarded.engine.tell("kill")
        guarded.engine.tell("start")
        until(answered(client, "one", 1))
        client.enroll("g", "two", picture(2))
        until(lambda: guarded.rows() == 2)
        # Another password: in the file soon after.
        root = guarded.client()
        root.update_password(USER, PASSWORD, ANOTHER)
        root.close()
        assert not answered(client, "one", 1)()
        assert "doesn't answer: it refuses the token" in log.read_text()
        (guarded.folder / "token").write_text(f"{USER}:{ANOTHER}\n")
        until(answered(client, "two", 2))
        client.enroll("g", "three", picture(3))
        until(lambda: guarded.rows(password=ANOTHER) == 3)
        # Another certificate, from another authority.
        guarded.theirs.sign("milvus", "localhost")
        shutil.copyfile(guarded.theirs.ca, guarded.folder / "ca")
        guarded.engine.tell("kill")
        guarded.engine.tell("start")
        until(answered(client, "three", 3))
        client.enroll("g", "four", picture(4))
        until(lambda: guarded.rows(password=ANOTHER, authority=guarded.theirs) == 4)
        assert server.terminate()[0] == 0
    assert "the token was read again" in log.read_text()
    assert PASSWORD not in log.read_text()
    assert ANOTHER not in log.read_text()
