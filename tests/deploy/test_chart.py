"""The chart: rendered by Helm's own code (helm-python-sdk), and what it makes held against Kubernetes' schemas."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oneglance_server.settings import Settings, load_settings

helm: Any = pytest.importorskip("helm_python")
kubernetes: Any = pytest.importorskip("kubernetes_validate")
yaml: Any = pytest.importorskip("yaml")

CHART = Path(__file__).parents[2] / "deploy/chart/oneglance"
POLICY = '[[grant]]\nto = ["key:admin"]\ngalleries = ["*"]\nrights = ["*"]\n'
SAFE = {"tls": {"secret": "certificate"}, "policy": POLICY}
EVERYTHING = SAFE | {
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
KUBERNETES = ("1.29", "1.36")


def rendered(values: dict[str, Any]) -> dict[str, Any]:
    """By kind and, of two of a kind, name."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name="demo", namespace="people")
    return {f"{one['kind']} {one['metadata']['name']}": one for one in objects(files)}


def objects(files: dict[str, str]) -> Iterator[Any]:
    for name, text in files.items():
        if not name.endswith(".txt"):
            yield from (one for one in yaml.safe_load_all(text) if one)


@pytest.mark.parametrize("values", [SAFE, EVERYTHING, {"insecure": True, "metrics": {"enabled": False}}])
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


def test_pods_are_confined() -> None:
    made = rendered(EVERYTHING)
    for name in ("StatefulSet demo-oneglance", "Job demo-oneglance-check-upgrade"):
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
    for name in ("tls", "master-key"):
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
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) == set(schema) - {"global"}
    refused = schema["settings"]["propertyNames"]["not"]["enum"]
    assert set(refused) <= set(Settings.model_fields)
    findings = helm.lint(str(CHART))
    assert not findings["errors"]
    assert {message["error"] for message in findings["messages"]} <= {"icon is recommended"}
