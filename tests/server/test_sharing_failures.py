"""A server whose galleries another one keeps: what it says while that one is away, and what it does not start with."""

import shutil
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from oneglance import Client, OneglanceError
from oneglance_server.errors import StartupError
from oneglance_server.settings import load_settings
from tests.pictures import picture
from tests.running import PACKAGES, ServerDidNotStart, ServerProcess, free_port, measured, server_thread
from tests.server.access.test_tls import Authority
from tests.waiting import until

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def machines_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneglance_server.app._GRANTED_SECONDS", 60.0)


def scraped(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def refused(client: Client) -> OneglanceError:
    with pytest.raises(OneglanceError) as error:
        client.identify("g", picture(5), tau=0)
    return error.value


@pytest.mark.parametrize("audit", ["on", "fail-closed"])
def test_while_the_keeper_is_away_all_is_told_but_what_is_in_galleries(
    models: tuple[Path, Path], tmp_path: Path, audit: str
) -> None:
    metrics, share = f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/share"

    def keeper() -> Any:
        return server_thread(data_dir=tmp_path / "kept", models=models, share=share)

    with ExitStack() as opened:
        server = ExitStack()
        with keeper() as kept, Client(kept.address) as client:
            client.create_gallery("g", encoder="pixels")
            client.enroll("g", "s", picture(5))
            served = opened.enter_context(server)
            one = served.enter_context(
                server_thread(
                    data_dir=tmp_path / "one", models=models, galleries=f"keeper+{share}", metrics=metrics, audit=audit
                )
            )
            asking = served.enter_context(Client(one.address))
            assert asking.identify("g", picture(5), tau=0).results[0].subject_id == "s"
            assert 'oneglance_gallery_subjects{gallery="g"} 1.0' in scraped(metrics)
        until(lambda: refused(asking).reason == "ENGINE_UNAVAILABLE")
        assert refused(asking).code.name == "UNAVAILABLE"
        assert asking.get_server().version
        assert [model.name for model in asking.list_models()]
        text = scraped(metrics)
        assert "oneglance_gallery_subjects{" not in text
        assert "oneglance_decisions_total" in text
        until(lambda: "oneglance_trouble 1.0" in scraped(metrics))
        with keeper():
            until(lambda: "oneglance_trouble 0.0" in scraped(metrics))
            assert asking.identify("g", picture(5), tau=0).results[0].subject_id == "s"


def test_what_another_server_deleted_is_forgotten(models: tuple[Path, Path], tmp_path: Path) -> None:
    share = f"unix:{tmp_path}/share"
    with (
        server_thread(data_dir=tmp_path / "kept", models=models, share=share) as kept,
        server_thread(data_dir=tmp_path / "one", models=models, galleries=f"keeper+{share}") as one,
        Client(kept.address) as client,
        Client(one.address) as other,
    ):
        for deleting, asking, server in ((client, other, one), (other, client, kept)):
            deleting.create_gallery("g", encoder="pixels")
            asking.identify("g", picture(5), tau=0)
            of = {"gallery": "g", "decision": "unknown"}
            assert measured(server, "oneglance_decisions_total", **of) == 1
            deleting.delete_gallery("g")
            until(lambda server=server: not server._gate.services.identification._batchers)  # type: ignore[misc]
            assert server._metrics.registry.get_sample_value("oneglance_decisions_total", of) is None


def test_one_address_is_of_one_keeper(models: tuple[Path, Path], tmp_path: Path) -> None:
    share = f"127.0.0.1:{free_port()}"
    with (
        server_thread(data_dir=tmp_path / "one", models=(), share=share),
        pytest.raises(StartupError, match="in use"),
        server_thread(data_dir=tmp_path / "two", models=(), share=share),
    ):
        pass


def test_a_keeper_that_asks_clients_for_certificates_asks_servers_for_the_token(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.sign("server", "localhost")
    (tmp_path / "token").write_text("a secret")
    token = f"file:{tmp_path}/token"
    tls = {"tls_cert": str(certificate), "tls_key": str(key), "tls_client_ca": str(authority.ca)}
    with server_thread(data_dir=tmp_path / "kept", models=(), share="127.0.0.1:0", share_token=token, **tls) as kept:
        address = f"keeper+tls://localhost:{kept.shared_address.rpartition(':')[2]}"
        of = {"galleries": address, "galleries_token": token, "galleries_ca": str(authority.ca)}
        with server_thread(data_dir=tmp_path / "one", models=(), **of) as one, Client(one.address) as client:
            assert client.list_galleries() is not None


def test_who_is_not_let_in_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a secret")
    with server_thread(
        data_dir=tmp_path / "kept", models=(), share="127.0.0.1:0", share_token=f"file:{tmp_path}/token"
    ) as kept:
        begun = time.monotonic()
        with (
            pytest.raises(StartupError, match="another token"),
            server_thread(data_dir=tmp_path / "one", models=(), galleries=f"keeper://{kept.shared_address}"),
        ):
            pass
        assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "module", ["kept_styles", "watched", "errors", "access/api_keys", "access/quotas", "service/thresholds"]
)
def test_a_server_of_other_code_is_refused(models: tuple[Path, Path], tmp_path: Path, module: str) -> None:
    """Also where what differs is only read by both, as the text of a file that they have in common."""
    other, share = other_code(tmp_path, module), f"unix:{tmp_path}/share"
    of: dict[str, Any] = {"models": models[0], "galleries": f"keeper+{share}", "galleries_wait_seconds": 1}
    with server_thread(data_dir=tmp_path / "kept", models=(), share=share):
        with ServerProcess(tmp_path / "same", **of):
            pass
        with pytest.raises(ServerDidNotStart, match="of another version of oneglance"):
            ServerProcess(tmp_path / "another", checkout=other, **of)


def other_code(folder: Path, module: str = "watched") -> Path:
    """A checkout that differs in a comment of a module of the server."""
    for package in PACKAGES:
        if package != "server":
            (folder / package).symlink_to(CHECKOUT / package)
    shutil.copytree(CHECKOUT / "server", folder / "server", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / f"server/oneglance_server/{module}.py").open("a") as changed:
        changed.write("# another\n")
    return folder


def test_a_server_waits_for_a_keeper_and_for_one_of_its_code(models: tuple[Path, Path], tmp_path: Path) -> None:
    """As where both are upgraded at once."""
    other, share = other_code(tmp_path), f"unix:{tmp_path}/share"
    own: dict[str, Any] = {"models": models[0], "checkout": other}
    log, kept = tmp_path / "log", tmp_path / "kept"
    with ThreadPoolExecutor(1) as pool:

        def begins() -> ServerProcess:
            of = {"galleries": f"keeper+{share}", "galleries_wait_seconds": 300, **own}
            return ServerProcess(tmp_path / "one", log=log, **of)

        beginning = pool.submit(begins)
        until(lambda: log.exists() and "waiting for the keeper" in log.read_text())
        with server_thread(data_dir=kept, models=(), share=share):
            until(lambda: "of another version of oneglance" in log.read_text())
            assert not beginning.done()
        with (
            ServerProcess(kept, share=share, **own) as keeper,
            beginning.result() as one,
            Client(keeper.address) as client,
            Client(one.address) as asking,
        ):
            client.create_gallery("g", encoder="pixels")
            assert [gallery.id for gallery in asking.list_galleries()] == ["g"]


def test_a_start_waits_as_long_as_it_is_told(models: tuple[Path, Path], tmp_path: Path) -> None:
    begun = time.monotonic()
    with (
        pytest.raises(StartupError, match="can't use the galleries of keeper"),
        server_thread(
            data_dir=tmp_path / "one",
            models=models,
            galleries=f"keeper+unix:{tmp_path}/share",
            galleries_wait_seconds=0.1,
        ),
    ):
        pass
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("secret", ["", "\n", "zwölf", "a\nb"])
def test_a_token_that_is_none_is_a_start_up_error(tmp_path: Path, secret: str) -> None:
    (tmp_path / "token").write_text(secret)
    with (
        pytest.raises(StartupError, match="--share-token: file:"),
        server_thread(data_dir=tmp_path / "kept", models=(), share="127.0.0.1:0", share_token=f"file:{tmp_path}/token"),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"share": "127.0.0.1:1", "policy": "p"}, "--share-token, or a Unix socket"),
        ({"share": "0.0.0.0:1"}, "beyond loopback"),
        ({"share": "7000"}, "expected host:port"),
        ({"share": "unix:share"}, "absolute path"),
        ({"galleries": "keeper://a:70000"}, "expected keeper://"),
        ({"galleries": "keeper+unix:share"}, "expected keeper://"),
        ({"galleries": "keeper://a:1", "galleries_ca": "ca"}, "without TLS"),
        ({"galleries": "milvus://a:1/b", "galleries_ca": "ca"}, "without TLS"),
        ({"galleries": "keeper+tls://a:1", "galleries_cert": "c", "galleries_key": "k"}, "are for milvus\\+tls"),
        ({"galleries": "milvus+tls://a:1/b", "galleries_cert": "c", "galleries_ca": "a"}, "go together"),
        ({"galleries": "milvus+tls://a:1/b", "galleries_cert": "c", "galleries_key": "k"}, "go together"),
        ({"galleries": "keeper://a:1", "share": "127.0.0.1:1"}, "--share is for the server that keeps"),
        ({"galleries": "keeper://a:1", "backup_dir": "b"}, "--backup-dir is for the server that keeps"),
    ],
)
def test_settings_that_do_not_go_together_are_a_start_up_error(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(StartupError, match=told):
        load_settings(settings)
