"""Commands about a ledger: ledger ls, verify, compact, prune, receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.options import FAILED, AsJson, show
from router.extras import need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.ledger.tables import LedgerTable

app = typer.Typer()
ledger = typer.Typer(help="What every request emitted, as it is kept.", no_args_is_help=True)
app.add_typer(ledger, name="ledger")

Where = Annotated[
    str, typer.Argument(metavar="DIR|URL", help="As `ledger.dir` or `ledger.url` has it.")
]
Only = Annotated[
    str, typer.Option("--table", help="Only this table: receipts or energy.", show_default="all")
]


@ledger.command("ls")
def ls(where: Where, table: Only = "", as_json: AsJson = False) -> None:
    """List days: files, rows, bytes, writers, and rows that are known to be missing."""
    chosen = _tables(where, table)
    from router.ledger.upkeep import days
    from router.operator.show.ledger import days_json, render_days

    found = {one.name: days(where, one) for one in chosen}
    if as_json:
        print(days_json(found))
    else:
        show(render_days(found))


@ledger.command("verify")
def verify(
    where: Where,
    table: Only = "",
    expect: Annotated[
        str, typer.Option(help="Hash of a batch that has to be there: one written down before.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Find a row that was changed, is missing or is there twice; list the gaps. 1: a fault."""
    chosen = _tables(where, table)
    from router.ledger.verification import verify as verified
    from router.operator.show.ledger import render_verified, verified_json

    found = {one.name: verified(where, one) for one in chosen}
    if expect and not any(expect in one.hashes for one in found.values()):
        # Of several tables it is in one.
        found = {one.name: verified(where, one, expect) for one in chosen}
    if as_json:
        print(verified_json(found))
    else:
        show(render_verified(found))
    if any(one.faults for one in found.values()):
        raise typer.Exit(FAILED)


@ledger.command("compact")
def compact(
    where: Where,
    table: Only = "",
    older_than_h: Annotated[
        float, typer.Option(min=0, help="Hours that have been over for so long.")
    ] = 1.0,
) -> None:
    """Make one file of those of an hour; every batch of them stays to be verified."""
    chosen = _tables(where, table)
    from router.clock import WallClock
    from router.ledger.upkeep import compact as compacted
    from router.units import HOUR_S

    before = WallClock().now() - older_than_h * HOUR_S
    for one in chosen:
        files, into = compacted(where, one, before)
        typer.echo(f"{one.name}: {files} files became {into}")


@ledger.command("prune")
def prune(
    where: Where,
    older_than_days: Annotated[int, typer.Option("--older-than", min=1, help="Days.")],
    table: Only = "",
) -> None:
    """Remove the files of old days; what is left is verified from where they end."""
    chosen = _tables(where, table)
    from datetime import UTC, datetime

    from router.clock import WallClock
    from router.ledger.upkeep import prune as pruned
    from router.units import DAY_S

    last = WallClock().now() - older_than_days * DAY_S
    before = datetime.fromtimestamp(last, UTC).date()
    for one in chosen:
        typer.echo(f"{one.name}: {pruned(where, one, before)} files of before {before} removed")
    if not table:
        from router.ledger.decisions.files import decision_files

        midnight = datetime(before.year, before.month, before.day, tzinfo=UTC).timestamp()
        gone = decision_files(where).prune(midnight)
        typer.echo(f"decisions: {gone} files of before {before} removed")


@ledger.command("receipts")
def receipts(
    where: Where,
    since: Annotated[str, typer.Option("--from", help="UTC: a day, or a time.")],
    until: Annotated[str, typer.Option("--to", help="Before that; left out: now.")] = "",
    tenant: Annotated[
        str, typer.Option(help="Whose, as callers name it.", show_default="all")
    ] = "",
    plain: Annotated[
        bool, typer.Option("--plain", help="Rows have tenants as they are (`tenant: plain`).")
    ] = False,
) -> None:
    """Write rows of a period as CSV, with what they were settled at, as callers get their own."""
    with need("ledger", "reading a ledger", file=where):
        from router.operator.receipts_csv import write_receipts
    import sys

    from router.clock import WallClock
    from router.telemetry.tenants import kept_tenant

    owner = kept_tenant(tenant, "plain" if plain else "hash") or None
    end = WallClock().now() if not until else _day_or_time(until, "--to")
    broken = write_receipts(where, owner, _day_or_time(since, "--from"), end, sys.stdout.buffer)
    for problem in broken:
        typer.echo(f"without the rows of {problem}", err=True)
    if broken:
        raise typer.Exit(FAILED)


def _day_or_time(text: str, option: str) -> float:
    from router.config import parse_day_or_time

    try:
        return parse_day_or_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _tables(where: str, name: str) -> Sequence[LedgerTable]:
    """Those that are there, or the one of this ``name``."""
    with need("ledger", "reading a ledger", file=where):
        from router.ledger.chain_files import LedgerPlace
        from router.ledger.tables import TABLES
    by_name = {table.name: table for table in TABLES}
    if name:
        if name not in by_name:
            raise typer.BadParameter(f"one of {', '.join(by_name)}", param_hint="--table")
        return [by_name[name]]
    place = LedgerPlace(where)
    return [table for table in TABLES if place.has(table)] or [TABLES[0]]
