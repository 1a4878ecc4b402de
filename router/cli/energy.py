"""The command about one answer: energy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import AsJson, parse_utc, picture, show

app = typer.Typer()


@app.command()
def energy(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help="Models, or other tasks.")
    ] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 500,
    answer: Annotated[int, typer.Option(help="Tokens of the answer.")] = 300,
    gpu: Annotated[
        str, typer.Option(help="H100, B200, A100-40GB, or all; left out: the first known.")
    ] = "",
    zone: Annotated[
        list[str] | None,
        typer.Option(help="A grid zone, repeatable; left out: California and West Virginia."),
    ] = None,
    at: Annotated[
        str, typer.Option(help="UTC month and hour to show, such as 2026-07-15T03:00Z.")
    ] = "",
    g_per_kwh: Annotated[
        float | None, typer.Option(help="A figure of your own, gCO2e/kWh.", show_default="none")
    ] = None,
    pue: Annotated[
        float | None, typer.Option(help="Facility over IT energy.", show_default="1.14")
    ] = None,
    params: Annotated[
        float | None,
        typer.Option(help="Active parameters, billions: estimates MODEL.", show_default="none"),
    ] = None,
    total_params: Annotated[
        float | None, typer.Option(help="All parameters, billions.", show_default="the active ones")
    ] = None,
    plot: Annotated[Path | None, picture("Draw grams by hour into this file")] = None,
    names: Annotated[
        bool, typer.Option("--list", help="List what has a figure, and exit.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what one answer of a model costs in joules and grams, where, and at what load."""
    from router.operator.footprint.report import EnergyQuestion, report
    from router.operator.show.energy import (
        energy_json,
        names_json,
        plot_energy,
        render_energy,
        render_names,
    )

    if names:
        if as_json:
            print(names_json())
        else:
            show(render_names())
        return
    told = report(
        EnergyQuestion(
            models=tuple(dict.fromkeys(models or ())),
            prompt_tokens=prompt,
            answer_tokens=answer,
            gpu=gpu,
            zones=tuple(dict.fromkeys(zone or ())),
            at=parse_utc(at),
            g_per_kwh=g_per_kwh,
            pue=pue,
            params_b=params,
            total_params_b=total_params,
        )
    )
    if plot is not None:
        plot_energy(told, plot)
    if as_json:
        print(energy_json(told))
    else:
        show(render_energy(told))


@app.command()
def profiles() -> None:
    """List the profiles that ship, as `profile:` of a served model names them."""
    from router.config.loading import shipped_profiles
    from router.operator.show.profiles import render_profiles

    show(render_profiles(shipped_profiles().values()))
