"""The command that takes kept decisions again: replay."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from router.cli.options import FAILED, AsJson, parse_utc, show

app = typer.Typer()


@app.command()
def replay(
    ledger: Annotated[str, typer.Argument(metavar="LEDGER", help="Its folder, or URL.")],
    policy: Annotated[
        str, typer.Option(help="What would this one have done? A file, or a shipped name.")
    ] = "",
    since: Annotated[
        str, typer.Option("--from", help="UTC, such as 2026-11-30T06:00Z; empty: all.")
    ] = "",
    until: Annotated[str, typer.Option("--to", help="UTC, not included.")] = "",
    model: Annotated[str, typer.Option(help="Only its requests.")] = "",
    decision_id: Annotated[
        str, typer.Option("--id", help="Every term of this decision's candidates.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Take kept decisions again: the same by this code, and what else another policy would do."""
    from router.extras import need

    with need("ledger", "reading a ledger", file=ledger):
        from router.ledger.decisions.reading import DecisionLedger
    from router.operator import replaying
    from router.operator.show.replay import render_replay, render_told, replay_json, told_json

    first, last = parse_utc(since, "--from"), parse_utc(until, "--to")
    reads = DecisionLedger(
        ledger,
        -math.inf if first is None else first,
        math.inf if last is None else last,
    )
    if decision_id:
        told = replaying.tell(reads, decision_id)
        if as_json:
            print(told_json(told))
        else:
            show(render_told(told))
        return
    other = replaying.OtherPolicy(policy) if policy else None
    found = replaying.replay(reads, other, model)
    if as_json:
        print(replay_json(found))
    else:
        show(render_replay(found))
    if not found.is_exact:
        raise typer.Exit(FAILED)
