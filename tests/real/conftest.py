"""Real servers and clients, each a subprocess on 127.0.0.1, for tests in the product's venv.

They live in .venv-real, .venv-kserve, .venv-carbon and .venv-ray, made by ``tests/real/install``.
Where those are missing or out of date the tests are skipped with the reason, or fail when CI=true
or CARBON_ROUTER_REQUIRE_REAL=1.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
READY = "/inference.GRPCInferenceService/ServerReady"
TRUE = b"\x08\x01"  # ServerReadyResponse.ready, field 1
POLLS = 900  # of at least 0.1 s each; a first start compiles the cost kernel
POLL_S = 0.1
STOP_S = 20.0
SCRIPT_S = 120.0
QUICK_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)

RunClient = Callable[..., dict[str, Any]]


def _venv_python(name: str, lock: Path) -> Path:
    stamp = ROOT / name / "stamp"
    expected = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text().strip() == expected:
        return ROOT / name / "bin" / "python"
    why = (
        f"REAL PARTS NOT TESTED: {name} is {'out of date' if stamp.exists() else 'missing'}; "
        "run tests/real/install (Python 3.11 or 3.12, about 1 minute and 2 GB)"
    )
    if os.environ.get("CI") == "true" or os.environ.get("CARBON_ROUTER_REQUIRE_REAL") == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def _plain_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would reach into another venv or to a proxy."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLSERVER_"))}
    return {**kept, "no_grpc_proxy": "127.0.0.1", "no_proxy": "127.0.0.1", **more}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _server(command: list[str], address: str, cwd: Path, log: Path, **env: str) -> Iterator[None]:
    """A server process, yielded once ServerReady says true; afterwards it must end on SIGTERM."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=_plain_environment(**env), stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _await_ready(process, address, log)
            yield
            assert process.poll() is None, f"died during the tests:\n{_tail(log)}"
            process.terminate()
            process.wait(STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert process.returncode in (0, -15), f"ended with {process.returncode}:\n{_tail(log)}"


def _await_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    with grpc.insecure_channel(address, options=QUICK_RECONNECT) as channel:
        ready = channel.unary_unary(READY)
        for _ in range(POLLS):
            try:
                if ready(b"", timeout=1.0) == TRUE:
                    return
            except grpc.RpcError:
                pass  # not listening yet
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"{process.args!r} ended before it was ready:\n{_tail(log)}")
    pytest.fail(f"{process.args!r} was not ready after {POLLS} polls:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]


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
def plain_environment() -> dict[str, str]:
    """This process's environment, fit for another venv's Python."""
    return _plain_environment()


@pytest.fixture(scope="session")
def mlserver(real_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real MLServer with the models ``linear`` (scikit-learn) and ``echo``."""
    folder = tmp_path_factory.mktemp("mlserver")
    models = folder / "models"
    shutil.copytree(HERE / "models", models, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [real_python, HERE / "train.py", models],
        check=True, env=_plain_environment(), timeout=SCRIPT_S,
    )  # fmt: skip
    http_port, grpc_port = _free_ports(2)
    address = f"127.0.0.1:{grpc_port}"
    command = [str(real_python.parent / "mlserver"), "start", str(models)]
    ports = {"MLSERVER_HTTP_PORT": str(http_port), "MLSERVER_GRPC_PORT": str(grpc_port)}
    with _server(command, address, folder, folder / "log", **ports):
        yield address


@pytest.fixture(scope="session")
def decoupled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that answers every streamed request with 32 messages, as Triton may."""
    folder = tmp_path_factory.mktemp("decoupled")
    (port,) = _free_ports(1)
    script = str(ROOT / "benchmarks" / "echo_backend.py")
    command = [sys.executable, script, "--listen", str(port), "--messages", "32"]
    address = f"127.0.0.1:{port}"
    with _server(command, address, folder, folder / "log"):
        yield address


@pytest.fixture(scope="session")
def gateway_before_mlserver(
    mlserver: str, decoupled_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of ``carbon-router serve``: MLServer's models, and ``decoupled`` behind the other."""
    folder = tmp_path_factory.mktemp("gateway")
    grpc_port, admin_port = _free_ports(2)
    address = f"127.0.0.1:{grpc_port}"
    config = folder / "gateway.yaml"
    served = {mlserver: ["linear", "echo"], decoupled_server: ["decoupled"]}
    config.write_text(yaml.safe_dump(gateway_config(address, f"127.0.0.1:{admin_port}", served)))
    command = [sys.executable, "-m", "router.cli", "serve", str(config)]
    with _server(command, address, ROOT, folder / "log"):
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
def run_client(real_python: Path) -> RunClient:
    """``run_client(script, address, *arguments, python=None)``: the JSON that a client prints.

    Scripts are those of ``clients/``, run by .venv-real's Python unless another is given. Each
    distinct call runs once a session.
    """
    answers: dict[tuple[str, ...], dict[str, Any]] = {}

    def run(script: str, *arguments: str, python: Path = real_python) -> dict[str, Any]:
        key = (script, *arguments)
        if key not in answers:
            done = subprocess.run(
                [python, HERE / "clients" / script, *arguments],
                env=_plain_environment(), capture_output=True, text=True, timeout=SCRIPT_S,
            )  # fmt: skip
            if done.returncode != 0:
                pytest.fail(f"{script} ended with {done.returncode}:\n{done.stderr[-4000:]}")
            answers[key] = json.loads(done.stdout)
        return answers[key]

    return run


@pytest.fixture(params=["direct", "gateway"])
def target(request: pytest.FixtureRequest) -> str:
    """Address under test: MLServer itself, then the gateway in front of it."""
    name = {"direct": "mlserver", "gateway": "gateway_before_mlserver"}[request.param]
    address: str = request.getfixturevalue(name)
    return address
