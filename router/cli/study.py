"""Commands that try policies out: simulate, bound, defer, schema, tune, replicate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import AsJson, show

app = typer.Typer()


ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="Scenario file.")]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy", help="A shipped name or a YAML file, also several; else the file's.",
        show_default=False,
    ),
]  # fmt: skip
Plans = Annotated[
    bool,
    typer.Option("--plans", help="Say what the distance to the bound is due to; takes minutes."),
]
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
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Run the split of savings under so many seeds.")
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes.", show_default="a core each, if worth it"),
    ] = None,
    fluid: Annotated[
        bool,
        typer.Option("--fluid", help="As flows: a year in minutes, without single requests."),
    ] = False,
    plans: Plans = False,
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
    from router.lab.study import command
    from router.lab.study.report.terminal import progress_bars, render
    from router.lab.study.summary import dumps

    with progress_bars() as progress:
        done = command.simulate(
            scenario, policy or (), folder=out, rows=rows, fluid=fluid, plans=plans, seed=seed,
            seeds=seeds, jobs=jobs, progress=progress,
        )  # fmt: skip
    if as_json:
        print(dumps(done.summary), end="")
        return
    show(render(done.summary))
    print(f"{done.folder / command.SUMMARY}\n{done.folder / command.REPORT}")


def _compare_live(
    scenario: Path, policies: Sequence[str], out: Path | None, seed: int | None, seconds: float
) -> int:
    from router.lab import calibration
    from router.lab.sim.scenario.loading import load
    from router.lab.study.command import default_folder

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
    plans: Plans = False,
    as_json: AsJson = False,
) -> None:
    """The least grams that anyone could have emitted for a scenario's work, knowing everything."""
    from router.lab.study.bounding import bound_json, bound_scenario, parse_slot, render_bound
    from router.lab.study.report.terminal import progress_bars

    try:
        slot_s = parse_slot(slot)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--slot") from error
    with progress_bars() as progress:
        found = bound_scenario(
            scenario, policy or (), slot_s=slot_s, seed=seed, plans=plans, progress=progress
        )
    if as_json:
        print(bound_json(found))
    else:
        show(render_bound(found))


@app.command()
def defer(
    scenario: ScenarioPath,
    policy: Annotated[
        str | None,
        typer.Option(help="A shipped name or a YAML file; else the file's.", show_default=False),
    ] = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """What it is worth to let requests wait that may: the scheduler's own code in virtual time."""
    from router.lab.study.deferring import defer_scenario, deferring_json, render_deferring
    from router.lab.study.report.terminal import progress_bars

    with progress_bars() as progress:
        found = defer_scenario(scenario, policy, seed=seed, progress=progress)
    if as_json:
        print(deferring_json(found))
    else:
        show(render_deferring(found))


@app.command()
def schema(
    file: Annotated[str, typer.Argument(help="scenario, config or policy")] = "scenario",
) -> None:
    """Print the JSON schema of a scenario, configuration or policy file."""
    from router.lab.study.schemas import FILES, schema_json

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
    from router.lab.study.tune import run_tune
    from router.lab.study.tune_progress import render_tuning

    tuning = run_tune(
        scenario, policy, minimise=minimise or ["gco2e"], subject_to=subject_to or (),
        trials=trials, jobs=jobs, batch=batch, train_share=train_share, out=out,
        engine_name=engine, seed=seed,
    )  # fmt: skip
    show(render_tuning(tuning))
    raise typer.Exit(tuning.code)


@app.command()
def replicate(
    study: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STUDY]...", help="Left out: all.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the studies' inputs (docs/evidence.md).",
            show_default="$CARBON_ROUTER_LITERATURE, else ../shared/data",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Re-run published studies and print their figures beside ours."""
    import os

    from router.lab import replicate as literature

    def tell(name: str) -> None:
        typer.echo(f"{name} ...", err=True)

    rerun = literature.replicate(study or (), data, os.environ, progress=tell)
    if as_json:
        print(literature.replication_json(rerun))
    else:
        show(literature.render(rerun))
