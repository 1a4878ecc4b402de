"""Commands of the gateway: serve, check, explain, and what needs no fleet, demo and emulate."""

from __future__ import annotations

import gc
import logging
import math
import os
from pathlib import Path
from typing import Annotated

import typer

from router import __version__
from router.cli.options import FAILED, AsJson, ConfigPath, limit, parse_utc, show

app = typer.Typer()


@app.command()
def serve(
    config: ConfigPath,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes that share the port; overrides the file."),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; SIGHUP reads the file again."""
    from router.telemetry import logs

    # Before what is slow: the first import of all compiles the kernels.
    output = logs.install()
    logging.getLogger(__name__).info("starting", extra={"version": __version__})
    output.close()
    # What is imported stays: collections would look through it in vain, now and later.
    gc.disable()
    from router.app import process

    gc.freeze()
    gc.enable()
    raise typer.Exit(process.serve(config, workers=workers))


@app.command()
def envoy(config: ConfigPath) -> None:
    """Serve through Envoy, which decides by the same compiled kernel; needs the extra `envoy`."""
    from router.telemetry import logs

    output = logs.install()
    logging.getLogger(__name__).info("starting", extra={"version": __version__})
    output.close()
    from router.app import envoy as plane

    raise typer.Exit(plane.serve(config))


@app.command()
def picker_conformance(
    address: Annotated[str, typer.Argument(help="host:port of an endpoint picker, in plaintext.")],
    model: Annotated[str, typer.Option(help="A model that its pool serves.")],
    path: Annotated[str, typer.Option(help="Of the requests.")] = "/v1/chat/completions",
    field: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of every request, such as a credential; repeatable."),
    ] = None,
) -> None:
    """Ask any endpoint picker as a gateway would; 1 where it breaks its protocol."""
    import asyncio

    from router.lab.emulator.picker_conformance import PickerTarget, check_picker

    pairs = [(name, value) for name, _, value in (one.partition("=") for one in field or ())]
    results = asyncio.run(check_picker(PickerTarget(address, model, path, tuple(pairs))))
    for one in results:
        said = f"BROKEN: {one.broken}" if one.broken else "kept"
        print(f"{one.name:24} {one.rule:68} {said}")
    broken = sum(bool(one.broken) for one in results)
    print(f"{len(results) - broken} of {len(results)} rules kept")
    if broken:
        raise typer.Exit(FAILED)


@app.command()
def check(
    config: ConfigPath,
    servers: Annotated[
        bool,
        typer.Option(
            "--servers", help="Ask each server, too, what it says of itself; 1 if one is no use."
        ),
    ] = False,
    store: Annotated[
        bool,
        typer.Option("--store", help="Ask the Redis of `state.redis`, too; 2 if it cannot be had."),
    ] = False,
    weather: Annotated[
        bool,
        typer.Option(
            "--weather", help="Ask for the weather of every point, too; 2 if it cannot be had."
        ),
    ] = False,
    envoy: Annotated[
        bool,
        typer.Option("--envoy", help="Say, too, what Envoy does otherwise; 2 if it cannot at all."),
    ] = False,
) -> None:
    """Validate a configuration and everything it names, then say what it does."""
    from router.app.loading import load
    from router.operator import check as checks
    from router.operator import servers as asking
    from router.operator.show.summary import render_summary

    loaded = load(config)
    notes, unusable = checks.check(config), list[str]()
    if servers:
        found = asking.server_findings(config)
        notes, unusable = notes + found.notes, found.unusable
    if envoy:
        from router.operator.envoy_check import envoy_notes

        notes += envoy_notes(loaded)
    if store:
        notes.append(checks.check_store(config))
        if loaded.settings.identity.schema.keys_in_store:
            from router.operator.key_store import stored_keys_note

            notes.append(stored_keys_note(config))
    if weather:
        from router.operator.weather import check_weather

        notes += check_weather(config)
    show(render_summary(loaded, notes))
    if unusable:
        typer.echo(f"servers: {'; '.join(unusable)}", err=True)
        raise typer.Exit(FAILED)


@app.command()
def explain(
    config: ConfigPath,
    model: Annotated[str, typer.Option(help="Model, as callers name it.")],
    model_version: Annotated[str, typer.Option(help="Empty: any.")] = "",
    origin: Annotated[str, typer.Option(help="Where the request comes from.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose request it is.")] = "",
    residency: Annotated[
        str, typer.Option(help="Allowed jurisdictions, comma-separated; empty: all.")
    ] = "",
    ttft_ms: Annotated[float, limit("Budget to the first token, ms.")] = math.inf,
    tpot_ms: Annotated[float, limit("Budget per output token, ms.")] = math.inf,
    e2e_ms: Annotated[float, limit("Budget end to end, ms.")] = math.inf,
    input_tokens: Annotated[
        float | None, typer.Option(min=1, help="Prompt length; left out: the model's mean.")
    ] = None,
    max_output_tokens: Annotated[
        float, typer.Option(min=1, help="Output limit.", show_default="none")
    ] = math.inf,
    at: Annotated[str, typer.Option(help="UTC time, such as 2022-05-14T18:00Z; empty: now.")] = "",
    as_json: AsJson = False,
) -> None:
    """Rank every candidate for one request, with each term of its score."""
    from router.core import claims
    from router.model import Budget, Request
    from router.operator import check as checks
    from router.operator.show.explanation import explained_json, render_explained

    when = parse_utc(at)
    limits = (ttft_ms, tpot_ms, e2e_ms)
    for option, budget_ms in zip(("--ttft-ms", "--tpot-ms", "--e2e-ms"), limits, strict=True):
        if not budget_ms > 0.0:
            raise typer.BadParameter("a latency budget must be over 0 ms", param_hint=option)
    # No output limit is infinite; a prompt is never.
    most = None if max_output_tokens == math.inf else max_output_tokens
    for option, count in (("--input-tokens", input_tokens), ("--max-output-tokens", most)):
        if count is not None and math.isnan(claims.tokens(count)):
            fix = f"token counts lie between 1 and {claims.MAX_TOKENS:g}"
            raise typer.BadParameter(fix, param_hint=option)
    request = Request(
        model=model,
        version=model_version,
        origin=origin,
        tenant=tenant,
        residency=frozenset(name.strip().lower() for name in residency.split(",") if name.strip()),
        budget=Budget(*limits, explicit=any(math.isfinite(limit) for limit in limits)),
        input_tokens=math.nan if input_tokens is None else input_tokens,
        max_output_tokens=max_output_tokens,
    )
    explained = checks.explain(config, request, when)
    if as_json:
        print(explained_json(explained))
    else:
        show(render_explained(explained))


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder for all files.", show_default="out/demo")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=5, max=3600, help="Wall time in which a day of carbon passes.")
    ] = 60.0,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Days replayed to split what is saved by cause.")
    ] = 5,
    openai: Annotated[
        bool,
        typer.Option("--openai", help="A short scene on real llama.cpp servers instead."),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(help="GGUF file for --openai.", show_default="fetched once, 93 MB"),
    ] = None,
) -> None:
    """Route real requests over an emulated fleet on loopback while a day of carbon passes."""
    if openai:
        from router.lab.demo import openai as scene

        raise typer.Exit(scene.run(out or Path("out/demo-openai"), seconds, model))
    if model is not None:
        raise typer.BadParameter("only --openai has one", param_hint="--model")
    from router.lab import demo as room

    raise typer.Exit(room.run(out or Path("out/demo"), seconds, seeds=seeds))


@app.command()
def emulate(
    config: ConfigPath,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM of the servers' certificate: serve over TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM of its key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM of whom callers' certificates must be signed by.")
    ] = None,
    key_env: Annotated[
        str, typer.Option(help="Variable with a key that callers must send; empty: none.")
    ] = "",
    request_metrics: Annotated[
        bool,
        typer.Option(
            "--enable-per-request-metrics",
            help="Answers of HTTP say where their time went, as vLLM's do with this option.",
        ),
    ] = False,
) -> None:
    """Run an emulated model server for each endpoint that the file marks `emulated: true`."""
    from router.lab.emulator import server
    from router.lab.emulator.guard import build_guard

    guard = build_guard(tls_cert, tls_key, tls_client_ca, key_env, os.environ)
    raise typer.Exit(server.run(config, tells_times=request_metrics, guard=guard))
