"""The command line: parse, call, exit code. 0 done, 1 failed, 2 a wrong file or argument.

Rooms are imported inside the commands, so that ``--help`` and ``check`` stay quick.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router import __version__
from router.errors import CarbonRouterError, ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED = 1
WRONG = 2
_PIPE_COLUMNS = 200

app = typer.Typer(
    name="carbon-router",
    help="Sends each inference request to the lowest-carbon endpoint that meets its budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _limit(text: str) -> Any:
    return typer.Option(help=text, show_default="none")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit. An error of the product is one short message on stderr."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except CarbonRouterError as error:
        print(f"{type(error).reason}:\n{error}", file=sys.stderr)
        sys.exit(WRONG if isinstance(error, ConfigError) else FAILED)
    except OSError as error:
        print(f"io: {error}", file=sys.stderr)
        sys.exit(FAILED)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"carbon-router {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigPath,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes that share the port; overrides the file."),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; SIGHUP reads the file again."""
    from router import app as root

    raise typer.Exit(root.serve(config, workers=workers))


@app.command()
def check(config: ConfigPath) -> None:
    """Validate a configuration and everything it names, then say what it does."""
    from router import app as root
    from router.config import load
    from router.views.summary import render_summary

    loaded = load(config)
    _print(render_summary(loaded, root.check(config)))


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
    ttft_ms: Annotated[float, _limit("Budget to the first token, ms.")] = math.inf,
    tpot_ms: Annotated[float, _limit("Budget per output token, ms.")] = math.inf,
    e2e_ms: Annotated[float, _limit("Budget end to end, ms.")] = math.inf,
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
    from router import app as root
    from router.model import Budget, Request
    from router.views.explanation import explanation_json, render_explanation

    when = _time(at)
    limits = (ttft_ms, tpot_ms, e2e_ms)
    if not all(limit > 0 for limit in limits):
        raise typer.BadParameter("a latency budget must be over 0 ms")
    request = Request(
        model=model,
        version=model_version,
        origin=origin,
        tenant=tenant,
        residency=frozenset(name.strip() for name in residency.split(",") if name.strip()),
        budget=Budget(*limits, explicit=any(math.isfinite(limit) for limit in limits)),
        input_tokens=math.nan if input_tokens is None else input_tokens,
        max_output_tokens=max_output_tokens,
    )
    explanation = root.explain(config, request, when)
    if as_json:
        print(explanation_json(explanation))
    else:
        _print(render_explanation(explanation))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report and the plot.")] = Path(
        "out/demo"
    ),
    seconds: Annotated[
        float, typer.Option(min=5, max=3600, help="Wall time in which a day of carbon passes.")
    ] = 60.0,
) -> None:
    """Route real requests over an emulated fleet on loopback while a day of carbon passes."""
    from router import demo as room

    raise typer.Exit(room.run(out, seconds))


@app.command()
def emulate(config: ConfigPath) -> None:
    """Run an emulated model server for each endpoint that the file marks `emulated: true`."""
    from router.emulator import server

    raise typer.Exit(server.run(config))


def _print(what: RenderableType) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        # Into a pipe or a file there is no edge to fit; 80 columns would cut the tables.
        console = Console(width=_PIPE_COLUMNS)
    console.print(what)


def _time(text: str) -> float | None:
    from router.config import parse_time

    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from error


if __name__ == "__main__":
    main()
