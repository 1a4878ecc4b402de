"""docker/helm, rendered by Helm's own code and held against the schemas of Kubernetes; without a
cluster."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from router.app.loading import load
from tests.config.samples import sample
from tests.config.test_found import in_cluster

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker" / "helm" / "carbon-router"
PAGE = ROOT / "docs" / "kubernetes.md"
JUDGE = Path(__file__).parent / "clients" / "helm_chart.py"

OPEN = {"insecure": True}
SMALL = {"config": {**sample(), "server": OPEN}}
ALL = {
    **SMALL,
    "config": {**sample(), "server": {**OPEN, "drain_s": 45.5, "admin_tls": {"cert_file": "/c"}}},
    "image": {"digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "http": {"enabled": True},
    "picker": {"enabled": True},
    "scaler": {
        "enabled": True,
        "scaledObjects": [
            {"name": "vllm-west", "region": "us-west", "maxReplicaCount": 8},
            {
                "name": "vllm-east",
                "region": "us-east",
                "model": "llama",
                "kind": "StatefulSet",
                "minReplicaCount": 1,
                "maxReplicaCount": 4,
                "requestsPerReplica": 32,
            },
        ],
    },
    "files": {"mine.yaml": "weights: {per_gco2e: 1}\n"},
    "secretEnv": [{"name": "KEY", "secret": "keys", "key": "eia"}],
    "secretFiles": [{"name": "tls", "secret": "my-tls"}],
    "autoscaling": {"enabled": True},
    "redis": {"mode": "valkey"},
    "discovery": {"rbac": {"create": True, "namespaces": ["one", "two"], "inferencePools": True}},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {}}],
        "monitoring": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "green"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "priorityClassName": "high",
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "extraVolumes": [{"name": "ledger", "persistentVolumeClaim": {"claimName": "ledger"}}],
    "extraVolumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
}
LEAST = {
    **SMALL,
    "podDisruptionBudget": {"enabled": False},
    "topologySpread": {"enabled": False},
    "serviceAccount": {"create": False},
    "networkPolicy": {"enabled": False},
}
OTHER_NAMES = {**SMALL, "fullnameOverride": "gate", "discovery": {"rbac": {"create": True}}}
OWN_ROLE = {
    "config": {
        **SMALL["config"],
        "discovery": in_cluster(service="vllm", region="us-west")["discovery"],
    }
}
THROUGH_ENVOY = {**SMALL, "envoy": {"enabled": True, "sharedMemory": "512Mi"}}
GOOD = {
    "small": SMALL, "all": ALL, "least": LEAST, "other names": OTHER_NAMES, "own role": OWN_ROLE,
    "envoy": THROUGH_ENVOY,
}  # fmt: skip
NONSENSE = {
    "no config": {},
    "an unknown key": {**SMALL, "replica": 2},
    "nobody": {**SMALL, "replicas": 0},
    "a word for a number": {**SMALL, "replicas": "two"},
    "a key in plain sight": {**SMALL, "secretEnv": [{"name": "KEY", "value": "secret"}]},
    "the configuration as a file": {**SMALL, "files": {"config.yaml": "version: 1"}},
    "a path": {**SMALL, "files": {"../x": "y"}},
    "another redis": {**SMALL, "redis": {"mode": "sentinel"}},
    "no size": {**SMALL, "envoy": {"enabled": True, "sharedMemory": "much"}},
    "a privileged port": {**SMALL, "ports": {"grpc": 80}},
    "no digest": {**SMALL, "image": {"digest": "latest"}},
    "a scaled object of nobody": {
        **SMALL, "scaler": {"enabled": True, "scaledObjects": [{"name": "x", "region": "y"}]}
    },
    "more at the least than at the most": {
        **SMALL,
        "scaler": {
            "enabled": True,
            "scaledObjects": [
                {"name": "x", "region": "y", "minReplicaCount": 3, "maxReplicaCount": 2}
            ],
        },
    },
    "config as text": {"config": "version: 1"},
    "fewer than the least": {
        **SMALL, "autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def judged(kube_python):
    examples = {f"page {n}": one for n, one in enumerate(page_values())}
    done = subprocess.run(
        [kube_python, JUDGE, CHART],
        input=json.dumps({**GOOD, **NONSENSE, **examples}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def page_values():
    """The values that docs/kubernetes.md shows."""
    blocks = re.findall(r"```yaml\n(# values\.yaml\n.*?)```", PAGE.read_text(), re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def of(answer, kind, name=None):
    (one,) = [
        one
        for one in answer["manifests"]
        if one["kind"] == kind and name in (None, one["metadata"]["name"])
    ]
    return one


def pods(answer):
    for one in answer["manifests"]:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", GOOD)
def test_what_it_renders_is_valid(judged, name):
    answer = judged[name]
    assert "error" not in answer, answer
    assert answer["lint"] == []
    assert answer["invalid"] == []
    names = [(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
             for one in answer["manifests"]]  # fmt: skip
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused(judged, name):
    assert "error" in judged[name]


def configuration(answer, folder):
    data = of(answer, "ConfigMap")["data"]
    for name, text in data.items():
        (folder / name).write_text(text)
    return folder / "config.yaml"


@pytest.mark.parametrize("name", ["small", "least", "other names", "own role"])
def test_its_configuration_is_one(judged, name, tmp_path):
    config = load(configuration(judged[name], tmp_path))
    assert config.settings.server.listen == "0.0.0.0:8500"
    assert config.settings.server.admin == "0.0.0.0:9500"


def test_the_page_shows_values_that_work(judged, tmp_path):
    count = len(page_values())
    assert count == 5
    for n in range(count):
        answer = judged[f"page {n}"]
        assert "error" not in answer, answer
        assert answer["invalid"] == answer["lint"] == []
        load(configuration(answer, tmp_path))


def test_a_store_and_a_front_over_http_are_in_the_configuration(judged):
    config = yaml.safe_load(of(judged["all"], "ConfigMap")["data"]["config.yaml"])
    assert config["state"] == {"redis": {"url": "redis://here-carbon-router-valkey:6379"}}
    assert config["server"]["http"] == "0.0.0.0:8000"
    assert of(judged["all"], "Service", "here-carbon-router-valkey")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("name", GOOD)
def test_nothing_may_more_than_it_has_to(judged, name):
    for spec in pods(judged[name]):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
        assert not any("hostPath" in volume for volume in spec["volumes"])
        assert not spec.get("hostNetwork")


def test_a_change_of_the_configuration_replaces_the_gateways(judged):
    def checksum(name):
        template = of(judged[name], "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/config"]

    assert checksum("small") == checksum("least")
    assert checksum("small") != checksum("all")


@pytest.mark.parametrize(("name", "drain_s"), [("small", 30), ("all", 45.5)])
def test_requests_have_their_time_to_finish(judged, name, drain_s):
    spec = of(judged[name], "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= drain_s + sleeps + 5


def test_probes_ask_the_admin_port_as_it_is_served(judged):
    for name, scheme in (("small", "HTTP"), ("all", "HTTPS")):
        (container,) = of(judged[name], "Deployment")["spec"]["template"]["spec"]["containers"]
        asked = {
            probe: container[probe]["httpGet"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert {one["scheme"] for one in asked.values()} == {scheme}
        assert asked["livenessProbe"]["path"] == asked["startupProbe"]["path"] == "/healthz"
        assert asked["readinessProbe"]["path"] == "/readyz"
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert ports["admin"] == 9500


def test_secrets_are_named_and_never_held(judged):
    spec = of(judged["all"], "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["env"] == [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "eia"}}}
    ]
    assert not any(one["kind"] == "Secret" for one in judged["all"]["manifests"])


def test_envoy_has_the_memory_that_it_shares_and_a_place_for_its_module(judged):
    for name, command in (("small", "serve"), ("envoy", "envoy")):
        spec = of(judged[name], "Deployment")["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert container["args"] == [command, "/etc/carbon-router/config.yaml"]
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        assert ("/dev/shm" in mounts) is (name == "envoy")
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "512Mi"}
    (cache,) = container["env"]
    assert cache["name"] == "XDG_CACHE_HOME" and cache["value"] in mounts
    assert "emptyDir" in volumes[mounts[cache["value"]]]


def test_discovery_may_read_and_nothing_else(judged):
    assert not any("Role" in one["kind"] for one in judged["small"]["manifests"])
    for name, asks in (("small", False), ("all", True), ("own role", True)):
        spec = of(judged[name], "Deployment")["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is asks
    assert not any("Role" in one["kind"] for one in judged["own role"]["manifests"])
    roles = [one for one in judged["all"]["manifests"] if one["kind"] in ("Role", "ClusterRole")]
    assert [one["metadata"].get("namespace") for one in roles] == ["one", "two", None]
    for role in roles:
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"list", "watch"}
            assert "secrets" not in rule["resources"]
            assert "*" not in rule["resources"] + rule["apiGroups"]


def test_only_gateways_reach_the_store(judged):
    policy = of(judged["all"], "NetworkPolicy", "here-carbon-router-valkey")["spec"]
    (rule,) = policy["ingress"]
    gateway = of(judged["all"], "Deployment")["spec"]["selector"]["matchLabels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": gateway}}]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and "egress" not in policy


def test_what_is_scraped_and_ruled_is_what_there_is(judged):
    rules = yaml.safe_load((ROOT / "docker" / "prometheus" / "rules.yml").read_text())
    assert of(judged["all"], "PrometheusRule")["spec"] == rules
    known = (ROOT / "docs" / "metrics.md").read_text()
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        for name in re.findall(r"carbon_router_\w+", rule["expr"]):
            assert f"`{name.removesuffix('_bucket').removesuffix('_count')}`" in known, name
    monitor = of(judged["all"], "ServiceMonitor")["spec"]
    labels = of(judged["all"], "Service", "here-carbon-router-admin")["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()


def test_keda_is_told_whom_to_ask_of_which_region(judged):
    answer = judged["all"]
    found = [one for one in answer["manifests"] if one["kind"] == "ScaledObject"]
    assert [one["spec"]["scaleTargetRef"]["name"] for one in found] == ["vllm-west", "vllm-east"]
    west, east = (one["spec"]["triggers"][0]["metadata"] for one in found)
    assert west["region"] == "us-west" and "model" not in west
    assert (east["region"], east["model"], east["requestsPerReplica"]) == ("us-east", "llama", "32")
    # All of it text, as KEDA wants metadata.
    assert all(isinstance(value, str) for value in (*west.values(), *east.values()))
    assert found[0]["spec"]["minReplicaCount"] == 0 and found[1]["spec"]["minReplicaCount"] == 1
    host, _, port = west["scalerAddress"].rpartition(":")
    services = [one for one in answer["manifests"] if one["kind"] == "Service"]
    names = {one["metadata"]["name"]: one for one in services}
    ports = {one["name"]: one["port"] for one in names[host.split(".")[0]]["spec"]["ports"]}
    assert ports["scaler"] == int(port) and "picker" in ports


def test_nobody_but_those_named_asks_the_picker(judged):
    (policy,) = [
        one
        for one in judged["all"]["manifests"]
        if one["kind"] == "NetworkPolicy" and "valkey" not in one["metadata"]["name"]
    ]
    let_in = {rule["ports"][0]["port"] for rule in policy["spec"]["ingress"]}
    assert "picker" not in let_in and "scaler" in let_in
