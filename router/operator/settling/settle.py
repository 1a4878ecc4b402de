"""`carbon-router settle`: prices for the hours of a ledger, from files and from providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from router.config.suggestions import meant
from router.config.zones import shipped_places
from router.errors import DataError
from router.ledger.month import US_PER_HOUR, US_PER_S
from router.ledger.settlement import SETTLED_WITHIN_S, MeasuredHour, Settlement, settle
from router.operator.reporting.opening import open_ledger, told
from router.operator.settling.intensity_files import FileTerms, measured_hours


@dataclass(frozen=True, slots=True)
class SettlementQuestion:
    """What is asked. ``renamed``: by grid zone of receipts, its name in the files; ``config``:
    whose providers are asked too; ``now``: unix s, as of which books are settled; ``threads``,
    ``memory``: of DuckDB, at most."""

    ledger: str | Path
    files: tuple[Path, ...]
    terms: FileTerms
    now: float
    config: Path | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    memory: str = ""


@dataclass(frozen=True, slots=True)
class SettlementResult:
    """``file``: its name in the ledger, None where nothing was news. ``open_hours``: by grid zone,
    hours with receipts and without a price, of those that can still be settled. ``failures``: of
    providers that could not be asked, a line each; what the others said was added."""

    settlement: Settlement
    file: str | None
    open_hours: Mapping[str, int]
    failures: tuple[str, ...] = ()


def settle_ledger(question: SettlementQuestion) -> SettlementResult:
    """Add what is news to the prices of the ledger.

    Raises ConfigError, TraceError and DataError; then nothing was added.
    """
    used = used_hours(question.ledger, question.now, question.threads, question.memory)
    from router.ledger.prices import add_prices, read_prices

    known = read_prices(question.ledger)
    measured: list[MeasuredHour] = []
    failures: tuple[str, ...] = ()
    for path in question.files:
        measured += _renamed(measured_hours(path, question.terms), question.renamed)
    _check_zones(measured, used, question)
    if question.config is not None:
        from router.operator.settling.providers import provider_hours

        given = {one.key for one in measured}
        told_of, failures = provider_hours(question.config, used, question.now)
        # A file is the operator's own word.
        measured += [one for one in told_of if one.key not in given]
    settlement = settle(known, measured, used, question.now)
    file = add_prices(question.ledger, settlement.added)
    priced = {(key.grid_zone, key.hour) for key in known}
    priced |= {(one.measured.key.grid_zone, one.measured.key.hour) for one in settlement.added}
    left = {zone: sum((zone, hour) not in priced for hour in hours) for zone, hours in used.items()}
    still_open = {zone: hours for zone, hours in sorted(left.items()) if hours}
    return SettlementResult(settlement, file, still_open, failures)


def used_hours(
    ledger: str | Path, now: float, threads: int | None = None, memory: str = ""
) -> dict[str, frozenset[int]]:
    """By grid zone the hours, since 1970, in which receipts of the last 30 days ran, or in which
    endpoints and gateways there are known to have been up."""
    since = datetime.fromtimestamp(now - SETTLED_WITHIN_S, UTC).date() - timedelta(days=1)
    connection = open_ledger(ledger, threads, memory)
    with told(ledger):
        rows = connection.execute(
            f"""
            SELECT DISTINCT grid_zone, unnest(range(first_hour, last_hour + 1)) FROM (
                SELECT DISTINCT grid_zone, (end_us - run_us) // {US_PER_HOUR} AS first_hour,
                    (end_us - least(run_us, 1)) // {US_PER_HOUR} AS last_hour
                FROM (
                    SELECT grid_zone, epoch_us(finished_at) AS end_us,
                        greatest(0, CAST(round(CAST(coalesce(run_s, 0) AS DOUBLE)
                            * {US_PER_S}) AS BIGINT)) AS run_us
                    FROM receipts WHERE grid_zone IS NOT NULL AND date >= DATE '{since}'
                )
            )
            UNION
            SELECT DISTINCT grid_zone, epoch_us(since) // {US_PER_HOUR} FROM energy
            WHERE grid_zone IS NOT NULL AND date >= DATE '{since}'
            """
        ).fetchall()
    found: dict[str, set[int]] = {}
    for zone, hour in rows:
        found.setdefault(zone, set()).add(hour)
    return {zone: frozenset(hours) for zone, hours in sorted(found.items())}


def _renamed(measured: Sequence[MeasuredHour], renamed: Mapping[str, str]) -> list[MeasuredHour]:
    """``measured``, and again under the names that receipts have of their zones."""
    by_file_name: dict[str, list[str]] = {}
    for receipts, file in renamed.items():
        by_file_name.setdefault(file, []).append(receipts)
    found = list(measured)
    for one in measured:
        for zone in by_file_name.get(one.key.grid_zone, ()):
            key = one.key._replace(grid_zone=zone)
            found.append(one._replace(key=key, source=f"{one.source}, as {one.key.grid_zone}"))
    return found


def _check_zones(
    measured: Sequence[MeasuredHour],
    used: Mapping[str, frozenset[int]],
    question: SettlementQuestion,
) -> None:
    """Raises DataError where no file is of a zone that has receipts, or no receipt has a name."""
    zones = {one.key.grid_zone for one in measured}
    for receipts, file in question.renamed.items():
        if receipts not in used:
            raise DataError(f"--renamed {receipts}={file}: no receipt is of {receipts}")
        if file not in zones:
            raise DataError(f"--renamed {receipts}={file}: no file has {file}")
    if question.files and used and not zones & used.keys():
        places = shipped_places()
        meanings = "; ".join(meant(zone, places, sorted(used)) for zone in sorted(zones)[:3])
        raise DataError(
            f"receipts are of {', '.join(used)}, and the files have none of them: {meanings}"
        )
