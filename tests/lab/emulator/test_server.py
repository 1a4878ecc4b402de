import asyncio
import signal
import socket
import sys

import aiohttp
import grpc.aio
import pytest

from router._pb import inference_pb2 as pb
from router.errors import ConfigError
from router.lab.emulator.server import EmulatedEndpoint, run, serve_fleet
from tests.lab.emulator.fleets import endpoint, fleet, infer_request, unary
from tests.ports import free_ports

CONFIG = """
version: 1
server: {{http: "127.0.0.1:0"}}
policy: latency-first
origins: {{home: {{rtt_ms: {{west: 1}}}}}}
default_origin: home
regions: {{west: {{grid_zone: US-CAL-CISO, pue: 1.1}}}}
models:
  llama-3.1-8b: {{input_tokens: 10, output_tokens: 5, output_tokens_p95: 9}}
  chat: {{input_tokens: 10, output_tokens: 5, output_tokens_p95: 9}}
endpoints:
  - name: a
    region: west
    address: 127.0.0.1:{port}
    max_in_flight: 8
    emulated: {emulated}
    models: [{{name: llama-3.1-8b, profile: llama-3.1-8b@1xh100}}]
    metrics: {{url: "http://127.0.0.1:{port}/metrics", engine: {engine}}}
  - name: b
    region: west
    address: 127.0.0.1:{http_port}
    protocol: openai
    max_in_flight: 8
    emulated: {emulated}
    models: [{{name: chat, profile: llama-3.1-8b@1xh100}}]
    metrics: {{url: "http://127.0.0.1:{http_port}/metrics", engine: vllm}}
"""


def write_config(tmp_path, **changes):
    port, http_port = free_ports(2)
    values = {
        "port": port,
        "http_port": http_port,
        "emulated": "true",
        "engine": "vllm",
        **changes,
    }
    path = tmp_path / "fleet.yaml"
    path.write_text(CONFIG.format(**values))
    return path, values


async def test_many_endpoints_and_their_metrics_in_one_process():
    (port,) = free_ports(1)
    urls = [f"http://127.0.0.1:{port}/{name}/metrics" for name in "abc"]
    endpoints = [endpoint(name, metrics_url=url) for name, url in zip("abc", urls, strict=True)]
    the_fleet = fleet(*endpoints)
    emulated = [EmulatedEndpoint(each, the_fleet) for each in endpoints]
    stop, started = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_fleet(emulated, stop, started.set))
        await started.wait()
        assert len({each.address for each in emulated}) == 3
        async with grpc.aio.insecure_channel(emulated[1].address) as channel:
            infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
            stuck = infer(infer_request("stuck", output_tokens=2))
            await infer(infer_request(output_tokens=9))
            async with aiohttp.ClientSession() as session:
                texts = [await (await session.get(url)).text() for url in urls]
            stuck.cancel()
        stop.set()
    assert 'vllm:num_requests_running{model_name="stuck"} 1\n' in texts[1]
    assert 'vllm:num_requests_running{model_name="stuck"} 0\n' in texts[0]
    assert 'vllm:kv_cache_usage_perc{model_name="stuck"} 0.015625\n' in texts[1]
    samples = dict(line.rsplit(" ", 1) for line in texts[1].splitlines() if line[0] != "#")
    total_j = float(samples['emulated:energy_joules_total{model_name="llama"}'])
    idle_j = float(samples['emulated:idle_joules_total{model_name="llama"}'])
    assert total_j - idle_j == pytest.approx(1.3 * (477 * (0.1 + 8 * 0.101) / 1e3 + 0.024 * 9))


async def test_endpoints_of_either_protocol_in_one_process():
    (port,) = free_ports(1)
    http = endpoint(
        "http", address=f"127.0.0.1:{port}", protocol="openai",
        metrics_url=f"http://127.0.0.1:{port}/metrics",
    )  # fmt: skip
    the_fleet = fleet(endpoint("grpc"), http)
    emulated = [EmulatedEndpoint(each, the_fleet) for each in the_fleet.endpoints]
    stop, started = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_fleet(emulated, stop, started.set))
        await started.wait()
        async with (
            grpc.aio.insecure_channel(emulated[0].address) as channel,
            aiohttp.ClientSession(f"http://{emulated[1].address}") as session,
        ):
            infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
            answer = await infer(infer_request(output_tokens=9))
            asked = {"model": "llama", "prompt": "hello", "output_tokens": 9}
            async with session.post("/v1/completions", json=asked) as reply:
                text = (await reply.json())["choices"][0]["text"]
            async with session.get("/metrics") as reply:
                page = await reply.text()
        stop.set()
    assert b"emulated by grpc: 9 units" in answer.raw_output_contents[0]
    assert "emulated by http: 9 units" in text
    assert 'vllm:num_requests_running{model_name="llama"} 0\n' in page
    assert 'emulated:energy_joules_total{model_name="llama"}' in page


@pytest.mark.parametrize("protocol", ["oip", "openai"])
async def test_a_taken_port_is_said(protocol):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = endpoint(address=f"127.0.0.1:{taken.getsockname()[1]}", protocol=protocol)
        emulated = EmulatedEndpoint(busy, fleet(busy))
        with pytest.raises(ConfigError, match="choose a free port"):
            await serve_fleet([emulated], asyncio.Event(), lambda: None)


def test_a_config_that_emulates_nothing_is_refused(tmp_path):
    path, _ = write_config(tmp_path, emulated="false")
    with pytest.raises(ConfigError, match="emulated: true"):
        run(path)


def test_an_engine_that_is_not_emulated_is_refused(tmp_path):
    path, _ = write_config(tmp_path, engine="triton")
    with pytest.raises(ConfigError, match="speaks vllm"):
        run(path)


async def test_run_serves_until_sigterm(tmp_path):
    path, values = write_config(tmp_path)
    port, http = values["port"], f"http://127.0.0.1:{values['http_port']}"
    text = path.read_text().replace(f"{port}/metrics", f"{free_ports(1)[0]}/metrics")
    path.write_text(text)
    code = (
        "import sys, pathlib; from router.lab.emulator.server import run; "
        "sys.exit(run(pathlib.Path(sys.argv[1]), seed=3))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            while b"emulating 2 endpoints" not in await process.stderr.readline():
                assert process.returncode is None
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
                answer = await infer(infer_request("llama-3.1-8b", output_tokens=1))
            asked = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
            async with (
                aiohttp.ClientSession(http) as session,
                session.post("/v1/chat/completions", json=asked) as reply,
            ):
                assert reply.status == 200 and reply.headers["x-emulated"] == "true"
            assert answer.parameters["emulated"].bool_param
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
