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
from router.model import Factors

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
    from router.views.explanation import explained_json, render_explained

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
    explained = root.explain(config, request, when)
    if as_json:
        print(explained_json(explained))
    else:
        _print(render_explained(explained))


@app.command()
def zones(
    provider: Annotated[str, typer.Option(help="Only what this provider can be asked.")] = "",
    grid_zone: Annotated[str, typer.Option(help="Only this grid zone.")] = "",
    as_json: AsJson = False,
) -> None:
    """List cloud regions, their grid zones, and what each carbon provider calls those."""
    from router.config.zones import shipped_places
    from router.views.zones import PROVIDERS, render_zones, zone_rows, zones_json

    if provider and provider not in PROVIDERS:
        raise typer.BadParameter(f"one of {', '.join(PROVIDERS)}", param_hint="--provider")
    rows = zone_rows(shipped_places(), provider, grid_zone)
    if as_json:
        print(zones_json(rows))
    elif rows:
        _print(render_zones(rows))
    if not rows:
        raise typer.Exit(FAILED)


@app.command()
def grid(
    zones: Annotated[list[str], typer.Argument(metavar="ZONE...", help="Grid zones.")],
    config: Annotated[
        Path | None, typer.Option(help="Whose sources to ask; left out: what ships.")
    ] = None,
    hours: Annotated[int, typer.Option(min=1, max=96, help="Back and ahead.")] = 48,
    plot: Annotated[Path | None, typer.Option(help="Draw a chart into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what every carbon source says of some grid zones, and who is used now."""
    from router import app as root
    from router.views.grid import grid_json, plot_grid, render_grid

    surveys = root.survey(list(dict.fromkeys(zones)), config, hours)
    if plot is not None:
        plot_grid(surveys, plot)
    if as_json:
        print(grid_json(surveys))
    else:
        _print(render_grid(surveys))


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


@app.command("forecast-eval")
def forecast_eval(
    data: Annotated[
        Path, typer.Option(help="Wide CSV(.gz) or Parquet: a datetime column, one a grid zone.")
    ],
    train_until: Annotated[
        str, typer.Option(help="First forecast is made here: 2023-01-01 or 2023-01-01T06:00Z.")
    ],
    zones: Annotated[str, typer.Option(help="Grid zones, comma-separated; empty: all.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.csv, forecasts.parquet and the plot.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="An origin every so many hours.")] = 1,
    factors: Annotated[Factors, typer.Option(help="Emission factors of the file.")] = (
        Factors.LIFECYCLE
    ),
) -> None:
    """Backtest the forecaster beside naive forecasts, from every hour after a date."""
    from router import backtest

    when = train_until + "T00:00Z" if len(train_until) == len("2023-01-01") else train_until
    since = _time(when, "--train-until")
    if since is None:
        raise typer.BadParameter("needs a date, such as 2023-01-01", param_hint="--train-until")
    chosen = backtest.parse_zones(zones)
    with backtest.progress_bar() as progress:
        evaluation = backtest.evaluate(
            data, chosen, since, factors=factors, every=every, out=out, progress=progress
        )
    _print(backtest.render(evaluation))


ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="Scenario file.")]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy", help="A shipped name or a YAML file, also several; else the file's.",
        show_default=False,
    ),
]  # fmt: skip
Seed = Annotated[int | None, typer.Option(min=0, help="Instead of the file's.", show_default=False)]


@app.command()
def simulate(
    scenario: ScenarioPath,
    policy: Policies = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for all files.", show_default="out/SCENARIO")
    ] = None,
    rows: Annotated[
        bool, typer.Option(help="Write what each policy did with every request, as Parquet.")
    ] = True,
    seed: Seed = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes.", show_default="a core each, if worth it"),
    ] = None,
    fluid: Annotated[
        bool,
        typer.Option("--fluid", help="As flows: a year in minutes, without single requests."),
    ] = False,
    compare_live: Annotated[
        bool, typer.Option("--compare-live", help="Hold it against the real gateway instead.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=10, max=3600, help="Wall time of --compare-live.")
    ] = 90.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print summary.json instead of a table.")
    ] = False,
) -> None:
    """Replay traffic against real grid history under policies, every baseline and the bound."""
    if compare_live:
        raise typer.Exit(_compare_live(scenario, policy or (), out, seed, seconds))
    from router.study import command
    from router.study.summary import dumps
    from router.study.terminal import progress_bars, render

    with progress_bars() as progress:
        done = command.simulate(
            scenario, policy or (), folder=out, rows=rows, fluid=fluid, seed=seed, jobs=jobs,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print(dumps(done.summary), end="")
        return
    _print(render(done.summary))
    print(f"{done.folder / command.SUMMARY}\n{done.folder / command.REPORT}")


def _compare_live(
    scenario: Path, policies: Sequence[str], out: Path | None, seed: int | None, seconds: float
) -> int:
    from router import calibration
    from router.sim.loading import load
    from router.study.command import default_folder

    simulation = load(scenario, policies, seed).simulation
    if len(simulation.policies) != 1:
        raise typer.BadParameter("--compare-live takes one policy", param_hint="--policy")
    folder = out or default_folder(scenario)
    return calibration.run(simulation, simulation.policies[0], folder, seconds, simulation.seed)


@app.command()
def bound(
    scenario: ScenarioPath,
    policy: Policies = None,
    slot: Annotated[str, typer.Option(help="Longest slot, such as 15m; at most an hour.")] = "1h",
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """The least grams that anyone could have emitted for a scenario's work, knowing everything."""
    from router.study.bounding import bound_json, bound_scenario, parse_slot, render_bound
    from router.study.terminal import progress_bars

    try:
        slot_s = parse_slot(slot)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--slot") from error
    with progress_bars() as progress:
        found = bound_scenario(scenario, policy or (), slot_s=slot_s, seed=seed, progress=progress)
    if as_json:
        print(bound_json(found))
    else:
        _print(render_bound(found))


@app.command()
def schema(
    file: Annotated[str, typer.Argument(help="scenario, config or policy")] = "scenario",
) -> None:
    """Print the JSON schema of a scenario, configuration or policy file."""
    from router.study.schemas import FILES, schema_json

    if file not in FILES:
        raise typer.BadParameter(f"one of {', '.join(FILES)}")
    print(schema_json(file))


@app.command()
def tune(
    scenario: ScenarioPath,
    policy: Annotated[
        str, typer.Option(help="Shipped name or path; its `free` says what may change.")
    ],
    minimise: Annotated[
        list[str] | None,
        typer.Option(help="Figure; several give a front.", show_default="gco2e"),
    ] = None,
    subject_to: Annotated[
        list[str] | None, typer.Option(help="Such as 'slo>=0.99', 'e2e_p95_ms<=2000'.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, max=100_000, help="Simulations.")] = 40,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes, or Ray's cores.")] = 1,
    batch: Annotated[
        int, typer.Option(min=1, max=4096, help="Proposed at a time; changes the result.")
    ] = 4,
    train_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Of the scenario; the rest is reported on.")
    ] = 0.6,
    out: Annotated[Path, typer.Option(help="Folder for policy, trials and plot.")] = Path(
        "out/tune"
    ),
    engine: Annotated[str, typer.Option(help="local, or ray: a cluster's cores.")] = "local",
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="The search's.", show_default=False)
    ] = None,
) -> None:
    """Search a policy's free parameters on a scenario's first span, and report on its later one."""
    from router.study.tune import run_tune
    from router.study.tune_progress import render_tuning

    tuning = run_tune(
        scenario, policy, minimise=minimise or ["gco2e"], subject_to=subject_to or (),
        trials=trials, jobs=jobs, batch=batch, train_share=train_share, out=out,
        engine_name=engine, seed=seed,
    )  # fmt: skip
    _print(render_tuning(tuning))
    raise typer.Exit(tuning.code)


def _print(what: RenderableType) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        # Into a pipe or a file there is no edge to fit; 80 columns would cut the tables.
        console = Console(width=_PIPE_COLUMNS)
    console.print(what)


def _time(text: str, option: str = "--at") -> float | None:
    from router.config import parse_time

    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


if __name__ == "__main__":
    main()
