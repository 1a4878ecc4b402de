"""Commands about grids: zones, grid, forecast-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import FAILED, AsJson, parse_utc, picture, show
from router.model import Factors

app = typer.Typer()


@app.command()
def zones(
    provider: Annotated[str, typer.Option(help="Only what this provider can be asked.")] = "",
    grid_zone: Annotated[str, typer.Option(help="Only this grid zone.")] = "",
    as_json: AsJson = False,
) -> None:
    """List cloud regions, their grid zones, and what each carbon provider calls those."""
    from router.carbon.providers.registry import providers, why_unusable
    from router.config.zones import shipped_places
    from router.operator.show.zones import render_zones, zone_rows, zones_json

    if provider and provider not in providers():
        raise typer.BadParameter(f"one of {', '.join(providers())}", param_hint="--provider")
    rows = zone_rows(shipped_places(), provider, grid_zone)
    if as_json:
        print(zones_json(rows))
    elif rows:
        show(render_zones(rows))
    if not rows:
        why = why_unusable(provider) or "no grid zone is like that"
        typer.echo(f"carbon-router: {why}", err=True)
        raise typer.Exit(FAILED)


@app.command()
def grid(
    zones: Annotated[list[str], typer.Argument(metavar="ZONE...", help="Grid zones.")],
    config: Annotated[
        Path | None, typer.Option(help="Whose sources to ask; left out: what ships.")
    ] = None,
    hours: Annotated[int, typer.Option(min=1, max=96, help="Back and ahead.")] = 48,
    plot: Annotated[Path | None, picture("Draw a chart into this file")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what every carbon source says of some grid zones, and who is used now."""
    from router.operator import survey
    from router.operator.show.grid import grid_json, plot_grid, render_grid

    surveys = survey.survey(list(dict.fromkeys(zones)), config, hours)
    if plot is not None:
        plot_grid(surveys, plot)
    if as_json:
        print(grid_json(surveys))
    else:
        show(render_grid(surveys))


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
    weather: Annotated[
        Path | None, typer.Option(help="Weather by hour and grid zone, as it was forecast.")
    ] = None,
) -> None:
    """Backtest the forecaster beside naive forecasts, from every hour after a date."""
    from router.lab import backtest

    when = train_until + "T00:00Z" if len(train_until) == len("2023-01-01") else train_until
    since = parse_utc(when, "--train-until")
    if since is None:
        raise typer.BadParameter("needs a date, such as 2023-01-01", param_hint="--train-until")
    chosen = backtest.parse_zones(zones)
    with backtest.progress_bar() as progress:
        evaluation = backtest.evaluate(
            data, chosen, since, factors=factors, every=every, out=out, weather=weather,
            progress=progress,
        )  # fmt: skip
    show(backtest.render(evaluation))
