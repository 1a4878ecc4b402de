"""The gateway's command: one process, or the parent of several workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from router.app import event_loop
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.compose import build_clock, build_rng
from router.app.descriptors import raise_limit
from router.app.gateway_process import GatewayProcess
from router.app.ledger import require_free_slots, require_ledger
from router.app.listening import held
from router.app.loading import load
from router.app.runtime import Runtime
from router.app.shared_state import build_store
from router.app.tracing import require_otlp
from router.app.trust import Trust
from router.app.watchdog import frozen_after_s
from router.app.workers import Plan, WorkerOrder, run_workers
from router.config.settings import Config, ServerSettings
from router.telemetry import logs


def serve(config_path: Path, workers: int | None = None) -> int:
    """Run the gateway until SIGTERM or SIGINT; SIGHUP reads the file again. Returns an exit code.

    Raises ConfigError or TraceError before anything listens.
    """
    config = load(config_path)
    clock = build_clock(config.settings.clock)
    server = config.settings.server
    count = workers or server.workers
    if count == 1:
        return _serve_one(config, config_path)
    # Tables and passwords are read by each worker; what is wrong with them is told once, here.
    Runtime(config, clock, ProviderDeps(clock, build_rng(), os.environ, Sessions(), count))
    Trust(config, build_clock(None), os.environ)
    build_store(config, clock, "", os.environ)
    require_ledger(config)
    require_otlp(config, os.environ)
    plan = Plan(config, config_path, count, frozen_after_s(server, count))
    output = logs.install(now=clock.monotonic)
    try:
        with held(str(config_path), _addresses(server)):
            require_free_slots(config, count)
            return run_workers(plan, _serve_worker, clock)
    finally:
        output.close()


def _addresses(server: ServerSettings) -> list[tuple[str, str]]:
    """What no other gateway may listen on, by configuration key."""
    if server.share_port:
        return []
    others = (
        ("server.http", server.http),
        ("server.picker", server.picker),
        ("server.scaler", server.scaler),
    )
    return [
        ("server.listen", server.listen),
        ("server.admin", server.admin),
        *((key, address) for key, address in others if address is not None),
    ]


def _serve_worker(order: WorkerOrder) -> int:
    return _serve_one(order.config, order.config_path, order)


def _serve_one(config: Config, config_path: Path, order: WorkerOrder | None = None) -> int:
    # A reload that is asked for before the handler stands waits until it does.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    raise_limit(config.settings.server, config.most_endpoints)
    output = logs.install(now=build_clock(config.settings.clock).monotonic)
    try:
        return event_loop.run(GatewayProcess(config, config_path, order).run())
    except BaseExceptionGroup as group:
        raise cause_of(group) from None
    finally:
        output.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error in a group; the group itself when it holds several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
