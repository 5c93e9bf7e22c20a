"""The chart: rendered by Helm's own code (helm-python-sdk), and what it makes held against Kubernetes' schemas."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import IPAddress

from oneglance import Client, tls_credentials
from oneglance_server.settings import Settings, load_settings
from tests.pictures import picture
from tests.running import PATIENT, ServerProcess, free_port
from tests.server.access.callers import key_of
from tests.server.access.test_tls import Authority

helm: Any = pytest.importorskip("helm_python")
kubernetes: Any = pytest.importorskip("kubernetes_validate")
yaml: Any = pytest.importorskip("yaml")

CHART = Path(__file__).parents[2] / "deploy/chart/oneglance"
POLICY = '[[grant]]\nto = ["key:admin"]\ngalleries = ["*"]\nrights = ["*"]\n'
SAFE = {"tls": {"secret": "certificate"}, "policy": POLICY}
EVERYTHING: dict[str, Any] = SAFE | {
    "tls": {"secret": "certificate", "clientCa": True},
    "masterKey": {"secret": "key"},
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "ours"}],
    "metrics": {"serviceMonitor": True, "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
    "clients": {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    "backups": {"size": "5Gi"},
    "persistence": {"storageClass": "fast"},
    "settings": {"max_batch": 32, "audit": "fail-closed", "max_wait": 0.5},
    "gpu": 1,
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "podAnnotations": {"a": "b"},
}
SERVERS: dict[str, Any] = SAFE | {"servers": {"replicas": 2, "tokenSecret": "share"}}
EVERY_SERVER: dict[str, Any] = EVERYTHING | {
    "servers": SERVERS["servers"]
    | {"settings": {"max_batch": 16, "traces": "on"}, "gpu": 1, "nodeSelector": {"a": "b"}},
    "milvus": {
        "uri": "milvus+tls://milvus.engines.svc:19530/people?replicas=2",
        "tokenSecret": "milvus",
        "caSecret": "authority",
        "clientSecret": "certificate",
        "to": [{"namespaceSelector": {"matchLabels": {"name": "engines"}}}],
    },
}
KUBERNETES = ("1.29", "1.36")


POD_MAKERS = (
    "StatefulSet demo-oneglance",
    "Deployment demo-oneglance-servers",
    "Job demo-oneglance-check-upgrade",
)


def rendered(values: dict[str, Any], name: str = "demo") -> dict[str, Any]:
    """By kind and, of two of a kind, name."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name=name, namespace="people")
    return {f"{one['kind']} {one['metadata']['name']}": one for one in objects(files)}


def objects(files: dict[str, str]) -> Iterator[Any]:
    for name, text in files.items():
        if not name.endswith(".txt"):
            yield from (one for one in yaml.safe_load_all(text) if one)


@pytest.mark.parametrize(
    "values", [SAFE, EVERYTHING, {"insecure": True, "metrics": {"enabled": False}}, SERVERS, EVERY_SERVER]
)
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_what_the_chart_makes(values: dict[str, Any], version: str) -> None:
    for one in rendered(values).values():
        if one["kind"] != "ServiceMonitor":  # of the Prometheus operator: no schema of Kubernetes
            kubernetes.validate(one, version, strict=True)


@pytest.mark.parametrize("values", [SAFE, EVERYTHING, {"insecure": True}])
def test_the_server_takes_its_settings(values: dict[str, Any], tmp_path: Path) -> None:
    text = rendered(values)["ConfigMap demo-oneglance"]["data"]
    (tmp_path / "oneglance.toml").write_text(text["oneglance.toml"])
    settings = load_settings({"listen": "0.0.0.0:50051", "data_dir": "/data/store"}, tmp_path / "oneglance.toml")
    assert bool(settings.tls_cert) == bool(settings.policy) == ("insecure" not in values)
    if "policy" in values:
        assert tomllib.loads(text["policy.toml"])["grant"][0]["rights"] == ["*"]
    if values is EVERYTHING:
        assert (settings.max_batch, settings.audit, settings.max_wait) == (32, "fail-closed", 0.5)
        assert (settings.metrics, settings.backup_dir) == ("0.0.0.0:9464", "/backups")


def keeper_and_servers(values: dict[str, Any], tmp_path: Path) -> tuple[Settings, Settings]:
    """Their settings, as they read them."""
    made, found = rendered(values), []
    for name in ("demo-oneglance", "demo-oneglance-servers"):
        (tmp_path / name).write_text(made[f"ConfigMap {name}"]["data"]["oneglance.toml"])
        found.append(load_settings({"listen": "0.0.0.0:50051", "data_dir": "/data/store"}, tmp_path / name))
    return found[0], found[1]


def test_servers_take_their_settings_and_find_the_keeper(tmp_path: Path) -> None:
    keeper, servers = keeper_and_servers(EVERY_SERVER, tmp_path)
    made = rendered(EVERY_SERVER)
    assert keeper.galleries == "milvus+tls://milvus.engines.svc:19530/people?replicas=2"
    assert servers.galleries == "keeper+tls://demo-oneglance-keeper.people.svc:50061"
    service = made["Service demo-oneglance-keeper"]["spec"]
    assert service["publishNotReadyAddresses"] is True
    assert [one["port"] for one in service["ports"] if one["name"] == "share"] == [int(keeper.share.split(":")[1])]
    assert (keeper.max_batch, servers.max_batch, servers.traces, servers.audit) == (32, 16, "on", "fail-closed")
    assert (keeper.backup_dir, servers.backup_dir) == ("/backups", "")
    insecure, others = keeper_and_servers({"insecure": True, "servers": SERVERS["servers"]}, tmp_path)
    assert insecure.share_token == others.galleries_token
    assert others.galleries.startswith("keeper://")


def test_who_is_called_is_who_serves_and_only_servers_reach_the_keeper() -> None:
    def chosen(made: dict[str, Any], name: str) -> set[str]:
        """The kinds whose pods are selected."""
        spec = made[name]["spec"]
        wanted = spec.get("selector", spec.get("podSelector"))
        wanted = wanted.get("matchLabels", wanted)
        return {kind for kind in POD_MAKERS if kind in made and wanted.items() <= labels(made, kind).items()}

    def labels(made: dict[str, Any], kind: str) -> dict[str, str]:
        found: dict[str, str] = made[kind]["spec"]["template"]["metadata"]["labels"]
        return found

    keeper, servers, _ = POD_MAKERS
    assert chosen(rendered(SAFE), "Service demo-oneglance") == {keeper}
    assert "Deployment demo-oneglance-servers" not in rendered(SAFE)
    made = rendered(EVERY_SERVER)
    assert chosen(made, "Service demo-oneglance") == {servers}
    assert chosen(made, "Service demo-oneglance-keeper") == {keeper}
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        assert chosen(made, f"{kind} demo-oneglance") == {keeper}
        assert chosen(made, f"{kind} demo-oneglance-servers") == {servers}
    for kind in (keeper, servers):
        assert made[kind]["spec"]["selector"]["matchLabels"].items() <= labels(made, kind).items()
    walls, theirs = (made[f"NetworkPolicy {name}"]["spec"] for name in ("demo-oneglance", "demo-oneglance-servers"))
    entries = {entry["ports"][0]["port"]: entry["from"] for entry in walls["ingress"]}
    assert set(entries) == {"share", "metrics"}
    for peer, kind in ((entries["share"], servers), (theirs["egress"][1]["to"], keeper)):
        assert [one["podSelector"]["matchLabels"].items() <= labels(made, kind).items() for one in peer] == [True]
    assert theirs["ingress"][0]["from"] == EVERYTHING["clients"]["from"]
    assert walls["egress"][1] == {"ports": [{"port": 19530}], "to": EVERY_SERVER["milvus"]["to"]}
    assert rendered(SERVERS)["NetworkPolicy demo-oneglance"]["spec"]["egress"] == []


def test_what_is_mounted_is_what_the_settings_name() -> None:
    made = rendered(EVERY_SERVER)
    for kind, config in zip(POD_MAKERS, ("demo-oneglance", "demo-oneglance-servers"), strict=False):
        pod = made[kind]["spec"]["template"]["spec"]
        volumes = {one["name"]: one for one in pod["volumes"]}
        mounted = {one["mountPath"]: volumes[one["name"]] for one in pod["containers"][0]["volumeMounts"]}
        assert mounted["/etc/oneglance"]["configMap"]["name"] == config
        named = tomllib.loads(made[f"ConfigMap {config}"]["data"]["oneglance.toml"])
        paths = [Path(str(one).removeprefix("file:")) for one in named.values() if "/run/secrets" in str(one)]
        assert len(paths) == {"demo-oneglance": 8, "demo-oneglance-servers": 5}[config]
        assert {str(path.parent) for path in paths} <= set(mounted)
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert "master-key" not in volumes or kind.startswith("StatefulSet")


def test_what_is_set_of_servers_alone_restarts_them_alone() -> None:
    def template(made: dict[str, Any], kind: str) -> Any:
        return made[kind]["spec"]["template"]

    keeper, servers, _ = POD_MAKERS
    before = rendered(SERVERS)
    after = rendered(SERVERS | {"servers": SERVERS["servers"] | {"replicas": 5, "settings": {"max_batch": 8}}})
    assert template(after, keeper) == template(before, keeper)
    assert template(after, servers) != template(before, servers)
    more = rendered(SERVERS | {"servers": SERVERS["servers"] | {"replicas": 5}})
    assert template(more, servers) == template(before, servers)


def test_two_servers_and_their_keeper_really_serve_with_these_settings(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    authority, share = Authority(tmp_path, "ca"), f"localhost:{free_port()}"
    certificate, key = authority.sign("tls", "localhost", IPAddress(ip_address("127.0.0.1")))
    (tmp_path / "share-token").write_text("0123")
    made, processes = rendered(SERVERS), []
    token = key_of(tmp_path / "keeper", "admin")
    places = {
        "/run/secrets/oneglance/tls/tls.crt": certificate,
        "/run/secrets/oneglance/tls/tls.key": key,
        "/run/secrets/oneglance/tls/ca.crt": authority.ca,
        "/run/secrets/oneglance/share-token": tmp_path,
        "/etc/oneglance": tmp_path,
        "demo-oneglance-keeper.people.svc:50061": share,
        "0.0.0.0:50061": share,
        "0.0.0.0:9464": "127.0.0.1:0",
    }
    with ExitStack() as opened:
        for name, config in (("keeper", ""), ("one", "-servers"), ("other", "-servers")):
            data = made[f"ConfigMap demo-oneglance{config}"]["data"]
            text = data["oneglance.toml"]
            for said, there in places.items():
                text = text.replace(said, str(there))
            assert "/run/" not in text
            (tmp_path / f"{name}.toml").write_text(text)
            (tmp_path / "policy.toml").write_text(data["policy.toml"])
            how = {"models": models[0], "log": tmp_path / "log", "config": tmp_path / f"{name}.toml"}
            processes.append(opened.enter_context(ServerProcess(tmp_path / name, first=PATIENT, **how)))
        clients = [
            opened.enter_context(Client(one.address, credentials=tls_credentials(authority.ca), token=token))
            for one in processes
        ]
        clients[1].create_gallery("g", encoder="pixels")
        clients[2].enroll("g", "it", picture(5))
        assert [one.identify("g", picture(5), tau=0.1).results[0].subject_id for one in clients] == ["it"] * 3


NAMES = "a" * 53, "a" * 39, "a" * 40, f"{'a' * 27}-b-c", f"{'a' * 51}-b", f"{'a' * 51}-c", "a.b", "a-b", "1st", "r-1st"


@pytest.mark.parametrize("name", NAMES)
def test_names_are_legal_whatever_the_release_is_called(name: str) -> None:
    """Helm takes 53 characters, digits first, and dots; a Service's name is a label of DNS that begins with a letter;
    with a StatefulSet's 11 more characters go into a label."""
    made = rendered(EVERY_SERVER, name=name)
    for one in made.values():
        assert re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", one["metadata"]["name"])
        assert one["kind"] != "StatefulSet" or len(one["metadata"]["name"]) <= 52
    (config,) = (one for name, one in made.items() if name.startswith("ConfigMap") and name.endswith("-servers"))
    keeper = tomllib.loads(config["data"]["oneglance.toml"])["galleries"]
    host = keeper.removeprefix("keeper+tls://").removesuffix(":50061")
    assert f"Service {host.removesuffix('.people.svc')}" in made


def test_releases_share_no_name() -> None:
    made = [set(rendered(EVERY_SERVER, name=name)) for name in NAMES]
    assert sum(map(len, made)) == len(set().union(*made))
    assert "Service demo-oneglance" in rendered(SAFE)
    assert "Service oneglance" in rendered(SAFE, name="oneglance")


def test_servers_wait_for_their_keeper_as_long_as_the_startup_probe(tmp_path: Path) -> None:
    """Else they end while a volume is attached, a store is converted, or the keeper of the version before ends, and
    Kubernetes lets minutes pass until it starts them again."""
    _, servers = keeper_and_servers(EVERY_SERVER, tmp_path)
    pod = rendered(EVERY_SERVER)["Deployment demo-oneglance-servers"]["spec"]["template"]["spec"]
    probe = pod["containers"][0]["startupProbe"]
    assert servers.galleries_wait_seconds == probe["periodSeconds"] * probe["failureThreshold"]


def test_pods_are_confined() -> None:
    made = rendered(EVERY_SERVER)
    for name in POD_MAKERS:
        pod = made[name]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == "oneglance@sha256:" + "0" * 64
    for name in ("tls", "master-key", "share-token", "milvus-token", "milvus-client"):
        volumes = made["StatefulSet demo-oneglance"]["spec"]["template"]["spec"]["volumes"]
        assert [one["secret"]["defaultMode"] for one in volumes if one["name"] == name] == [0o440]


def test_each_probe_asks_what_it_is_for() -> None:
    (container,) = rendered(SAFE)["StatefulSet demo-oneglance"]["spec"]["template"]["spec"]["containers"]
    asked = {name: container[f"{name}Probe"]["exec"]["command"] for name in ("startup", "liveness", "readiness")}
    assert all("--ca=/run/secrets/oneglance/tls/ca.crt" in command for command in asked.values())
    assert "--live" in asked["liveness"]
    assert "--service=oneglance.v1.IdentificationService" in asked["readiness"]
    for command in asked.values():  # the command line takes them
        from oneglance_apps.cli.main import parser

        parser(with_settings=False).parse_args(command[1:])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "tls.secret"),
        ({"tls": {"secret": "s"}}, "policy"),
        (SAFE | {"metrics": {"enabled": False, "serviceMonitor": True}}, "serviceMonitor"),
        (SAFE | {"image": {"digest": "sha256:1"}}, "digest"),
        (SAFE | {"replicas": 2}, "replicas"),
        (SAFE | {"settings": {"listen": "0.0.0.0:1"}}, "listen"),
        (SAFE | {"settings": {"galleries": "keeper://a:1"}}, "galleries"),
        (SAFE | {"servers": {"replicas": 1}}, "servers.tokenSecret"),
        (SERVERS | {"settings": {"workers": 2}}, "settings.workers"),
        (SAFE | {"milvus": {"caSecret": "a"}}, "milvus.uri"),
        (SAFE | {"milvus": {"uri": "milvus://a:1/b", "caSecret": "a"}}, "milvus.caSecret"),
        (SAFE | {"milvus": {"uri": "milvus+tls://a:1/b", "clientSecret": "a"}}, "milvus.caSecret"),
        (SAFE | {"milvus": {"uri": "milvus://root:secret@a:1/b"}}, "uri"),
        (SAFE | {"backups": {"size": 3}}, "size"),
    ],
)
def test_what_can_not_be_is_refused_in_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(helm.HelmError, match=told):
        rendered(values)


def test_the_chart_is_of_this_version_and_every_value_is_documented() -> None:
    from importlib.metadata import version

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version("oneglance")
    whole = yaml.safe_load((CHART / "values.schema.json").read_text())
    schema = whole["properties"]
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) == set(schema) - {"global"}
    refused = whole["definitions"]["settings"]["propertyNames"]["not"]["enum"]
    assert set(refused) <= set(Settings.model_fields)
    findings = helm.lint(str(CHART))
    assert not findings["errors"]
    assert {message["error"] for message in findings["messages"]} <= {"icon is recommended"}
