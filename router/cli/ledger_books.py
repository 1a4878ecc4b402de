"""Commands over a ledger's books: settle, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import AsJson, parse_utc, show
from router.model import Basis, Factors, Kind
from router.parent_process import end_with_parent

app = typer.Typer()

LedgerPath = Annotated[str, typer.Argument(metavar="LEDGER", help="Its folder, or URL.")]
Threads = Annotated[int | None, typer.Option(min=1, help="At most.", show_default="all cores")]
Memory = Annotated[str, typer.Option(help="At most, such as 4GB; more goes to disk.")]
OfFactors = Annotated[Factors, typer.Option(help="Emission factors that grams are of.")]


@app.command()
def settle(
    ledger: LedgerPath,
    intensities: Annotated[
        list[Path] | None,
        typer.Option(help="CSV or Parquet of measured intensities, repeatable."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Whose carbon providers to ask, too.")] = None,
    basis: Annotated[Basis, typer.Option(help="Of the files.")] = Basis.AVERAGE,
    factors: OfFactors = Factors.LIFECYCLE,
    kind: Annotated[Kind, typer.Option(help="Of the files: measured or estimated.")] = (
        Kind.MEASURED
    ),
    source: Annotated[str, typer.Option(help="Who says so; left out: the file's name.")] = "",
    hour_ending: Annotated[
        bool, typer.Option("--hour-ending", help="A wide file's stamps are ends of hours.")
    ] = False,
    renamed: Annotated[
        list[str] | None,
        typer.Option(help="OLD=NEW: a zone of receipts, and its name in the files."),
    ] = None,
    at: Annotated[str, typer.Option(help="Settle as of this UTC time; left out: now.")] = "",
    threads: Threads = None,
    memory: Memory = "",
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
    as_json: AsJson = False,
) -> None:
    """Price receipts anew by measured or revised intensities; both figures stay."""
    if parent:
        # Of a gateway that settles in the background: without it nobody would know of this one.
        end_with_parent(parent)
    from router.clock import WallClock
    from router.model import Signal
    from router.operator.settling.intensity_files import FileTerms
    from router.operator.settling.settle import SettlementQuestion, settle_ledger
    from router.operator.show.settlement import render_settlement, settlement_json

    if not intensities and config is None:
        raise typer.BadParameter("give --intensities, or --config", param_hint="--intensities")
    pairs = dict(_pair(one, "--renamed") for one in renamed or ())
    given = parse_utc(at)
    result = settle_ledger(
        SettlementQuestion(
            ledger=ledger,
            files=tuple(intensities or ()),
            terms=FileTerms(Signal(basis, factors), kind, source, hour_ending),
            now=WallClock().now() if given is None else given,
            config=config,
            renamed=pairs,
            threads=threads,
            memory=memory,
        )
    )
    if as_json:
        print(settlement_json(result))
    else:
        show(render_settlement(result))


@app.command()
def report(
    ledger: LedgerPath,
    month: Annotated[str, typer.Option(help="UTC, such as 2026-11.")],
    per: Annotated[str, typer.Option(help="tenant, model or region.")] = "model",
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables, manifests and pages.")
    ] = None,
    factors: OfFactors = Factors.LIFECYCLE,
    pue: Annotated[
        Path | None, typer.Option(help="CSV region,month,pue,source instead of receipts' PUE.")
    ] = None,
    embodied: Annotated[
        Path | None, typer.Option(help="CSV of embodied emissions instead of the shipped one.")
    ] = None,
    market: Annotated[
        Path | None, typer.Option(help="CSV of hourly certificates and residual factors.")
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=UNIT[:N]: what an answer is, such as sd3=image:4; repeatable."),
    ] = None,
    threads: Threads = None,
    memory: Memory = "",
    as_json: AsJson = False,
) -> None:
    """Add up a month: SCI, GHG Protocol tables, manifests, and a page for the public."""
    from router.ledger.month import Month
    from router.operator.reporting.command import make_report
    from router.operator.reporting.gather import Per, ReportQuestion
    from router.operator.show.report import render_report, report_json

    if per not in tuple(Per):
        raise typer.BadParameter(f"one of {', '.join(Per)}", param_hint="--per")
    question = ReportQuestion(
        ledger=ledger,
        month=Month.parse(month),
        per=Per(per),
        factors=factors,
        pue=pue,
        embodied=embodied,
        market=market,
        units=dict(_unit(one) for one in unit or ()),
        threads=threads,
        memory=memory,
    )
    told = make_report(question, out)
    if as_json:
        print(report_json(told))
    else:
        show(render_report(told, out))


def _pair(text: str, option: str) -> tuple[str, str]:
    left, sign, right = text.partition("=")
    if not (sign and left.strip() and right.strip()):
        raise typer.BadParameter(f"{text!r} is not A=B", param_hint=option)
    return left.strip(), right.strip()


def _unit(text: str):  # type: ignore[no-untyped-def]
    from router.ledger.quantities import FunctionalUnit

    model, right = _pair(text, "--unit")
    name, _, count = right.partition(":")
    known = {unit.name.lower().replace("_", "-"): unit for unit in FunctionalUnit}
    try:
        of_one = float(count) if count else 1.0
    except ValueError:
        of_one = 0.0
    if name not in known or not 0.0 < of_one < 1e9:
        fix = f"{text!r}: a unit of {', '.join(known)}, and how many of them an answer is"
        raise typer.BadParameter(fix, param_hint="--unit")
    return model, (known[name], of_one)
