"""What one reading of a vLLM server's metrics page costs the event loop, in CPU time.

The page is as long as that of vLLM 0.32 (624 lines, 52 kB; with several engines a multiple of it):
its gauges, counters and histograms by their names, written by prometheus_client. ``parse``: the
scan alone, of the page as it comes off a socket in pieces. ``GET``: all of `PrometheusLoad.read`
over loopback, from a server in another process, so that aiohttp's part is in it and the server's is
not. ``aiohttp``: the same GET, read and thrown away. ``reference``: prometheus_client's own parser.

    python -m benchmarks.scrape            # ten seconds
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from router.load.exposition import PageScan
from router.load.scraper import PrometheusLoad, open_session
from router.model import Endpoint

# CPU milliseconds a page may cost (issue 12).
HELD_TO_MS = 0.15
# How much of a page one read of a socket brings.
PIECE_BYTES = 64 * 1024
ROUNDS, PAGES_A_ROUND = 15, 40
MODEL = "meta-llama/Llama-3.1-8B-Instruct"

GAUGES = (
    "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "engine_sleep_state",
    "lora_requests_info", "cache_config_info", "estimated_flops_per_gpu",
)  # fmt: skip
COUNTERS = (
    "num_preemptions", "prompt_tokens", "generation_tokens", "prefix_cache_queries",
    "prefix_cache_hits", "external_prefix_cache_queries", "external_prefix_cache_hits",
    "mm_cache_queries", "mm_cache_hits", "prompt_tokens_cached", "prompt_tokens_recomputed",
)  # fmt: skip
SECONDS = (
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
    "request_time_per_output_token_seconds", "request_queue_time_seconds",
    "request_inference_time_seconds", "request_prefill_time_seconds",
    "request_decode_time_seconds",
)  # fmt: skip
TOKENS = (
    "request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total",
    "request_max_num_generation_tokens", "request_params_max_tokens", "request_params_n",
    "request_prefill_kv_computed_tokens",
)  # fmt: skip
SECOND_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_BUCKETS = tuple(float(step * 10**power) for power in range(6) for step in (1, 2, 5))


def vllm_page(engines: int = 1, seed: int = 1) -> bytes:
    """A metrics page of one vLLM server with so many data-parallel engines."""
    rng, registry = random.Random(seed), CollectorRegistry()
    labels = ["engine", "model_name"]

    def named(name: str) -> str:
        return f"vllm:{name}"

    gauges = [Gauge(named(name), f"{name} of it.", labels, registry=registry) for name in GAUGES]
    by_reason = Gauge(
        named("num_requests_waiting_by_reason"), "Those that wait.", [*labels, "reason"],
        registry=registry,
    )  # fmt: skip
    finished = Counter(
        named("request_success"), "Finished requests.", [*labels, "finished_reason"],
        registry=registry,
    )  # fmt: skip
    counters = [
        Counter(named(name), f"{name} so far.", labels, registry=registry) for name in COUNTERS
    ]
    histograms = [
        Histogram(named(name), f"{name} as seen.", labels, buckets=buckets, registry=registry)
        for names, buckets in ((SECONDS, SECOND_BUCKETS), (TOKENS, TOKEN_BUCKETS))
        for name in names
    ]
    for engine in map(str, range(engines)):
        for gauge in gauges:
            gauge.labels(engine, MODEL).set(rng.random())
        gauges[0].labels(engine, MODEL).set(4)
        gauges[1].labels(engine, MODEL).set(3)
        for reason in ("capacity", "deferred"):
            by_reason.labels(engine, MODEL, reason).set(1)
        for reason in ("stop", "length", "abort", "error"):
            finished.labels(engine, MODEL, reason).inc(rng.randrange(10**6))
        for counter in counters:
            counter.labels(engine, MODEL).inc(rng.randrange(10**9))
        for histogram in histograms:
            for _ in range(20):
                histogram.labels(engine, MODEL).observe(rng.lognormvariate(1.0, 3.0))
    return generate_latest(registry)


def parse(page: bytes) -> None:
    """The scan alone."""
    scan = PageScan("vllm")
    for first in range(0, len(page), PIECE_BYTES):
        scan.take(page[first : first + PIECE_BYTES])
    scan.load(0.0)


def reference(page: bytes) -> None:
    """By prometheus_client."""
    for family in text_string_to_metric_families(page.decode()):
        for _ in family.samples:
            pass


def measured_ms(work: Callable[[], None], pages: int = PAGES_A_ROUND) -> float:
    """CPU time of this process a page: the median of the rounds."""
    took = []
    for _ in range(ROUNDS):
        before = time.process_time_ns()
        for _ in range(pages):
            work()
        took.append((time.process_time_ns() - before) / pages / 1e6)
    return statistics.median(took)


async def awaited_ms(work: Callable[[], Awaitable[None]]) -> float:
    """As `measured_ms`."""
    took = []
    for _ in range(ROUNDS):
        before = time.process_time_ns()
        for _ in range(PAGES_A_ROUND):
            await work()
        took.append((time.process_time_ns() - before) / PAGES_A_ROUND / 1e6)
    return statistics.median(took)


def serve(pages: dict[str, bytes], told: Connection) -> None:
    """The server's process: tells its port, and serves until it is terminated."""

    async def run() -> None:
        async def page(request: web.Request) -> web.Response:
            return web.Response(body=pages[request.path], content_type="text/plain")

        app = web.Application()
        for path in pages:
            app.router.add_get(path, page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


async def got_ms(url: str) -> tuple[float, float]:
    """(a whole reading, its GET alone), CPU milliseconds of this process."""
    endpoint = Endpoint("a", "here", "127.0.0.1:1", "openai", (), 8, url, "vllm", False)
    async with open_session() as session:
        source = PrometheusLoad(session, timeout_s=5.0)

        async def reading() -> None:
            await source.read(endpoint, 0.0)

        async def bare() -> None:
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=5.0)) as reply:
                async for _ in reply.content.iter_any():
                    pass

        await reading()
        return await awaited_ms(reading), await awaited_ms(bare)


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    pages = {f"/{engines}": vllm_page(engines) for engines in (1, 8)}
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(pages, theirs), daemon=True)
    server.start()
    table = Table(title=f"CPU ms a page; {machine('aiohttp')}")
    for column in ("page", "parse", "GET, parse included", "aiohttp alone", "reference", "held to"):
        table.add_column(column, justify="right")
    try:
        port = ours.recv()
        gc.freeze()
        for path, page in pages.items():
            parsed = measured_ms(lambda page=page: parse(page))
            whole, bare = asyncio.run(got_ms(f"http://127.0.0.1:{port}{path}"))
            slow = measured_ms(lambda page=page: reference(page), 2)
            lines = page.count(b"\n")
            met = "met" if parsed <= HELD_TO_MS else "NOT MET"
            table.add_row(
                f"{path[1:]} engine(s), {lines} lines, {len(page) / 1e3:.0f} kB",
                f"{parsed:.3f}", f"{whole:.2f}", f"{bare:.2f}", f"{slow:.1f}",
                f"parse {HELD_TO_MS}: {met}" if path == "/1" else "",
            )  # fmt: skip
    finally:
        server.terminate()
        server.join()
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
