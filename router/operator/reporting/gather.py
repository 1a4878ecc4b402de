"""The figures of a report: a month of a ledger, priced, by whoever they are told for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from router import __version__
from router.config.profiles import name_before_calibration
from router.errors import DataError, MixedBasisError
from router.ledger.month import Month
from router.ledger.quantities import CarbonMass, EnergyAmount, FunctionalUnit
from router.model import Basis, Factors
from router.operator.reporting.coefficients import (
    Coefficient,
    Embodied,
    MarketFactor,
    Pue,
    embodied_table,
    gpu_shares,
    hardware_of,
    market_prices,
    read_market,
    read_pue,
)
from router.operator.reporting.opening import (
    ReadFile,
    digest_of,
    links_of,
    open_ledger,
    read_files,
    told,
)

if TYPE_CHECKING:
    import duckdb

    from router.ledger.home_region import AtHome
    from router.ledger.intensity_uses import IntensityError
    from router.ledger.lost_rows import LostRows
    from router.ledger.waiting_savings import WaitedWork


class Per(StrEnum):
    """For whom figures are told apart."""

    TENANT = "tenant"
    MODEL = "model"
    REGION = "region"


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    """What is asked. ``units``: by model what one answer is, and how many of them."""

    ledger: str | Path
    month: Month
    per: Per = Per.MODEL
    factors: Factors = Factors.LIFECYCLE
    pue: Path | None = None
    embodied: Path | None = None
    market: Path | None = None
    units: Mapping[str, tuple[FunctionalUnit, float]] = field(default_factory=dict)
    threads: int | None = None
    memory: str = ""


class GroupSums(NamedTuple):
    """Sums of one group (or hour), as `router.ledger.priced_cells.SUMS` names them, in quanta."""

    group: str
    sums: Mapping[str, int]

    def count(self, name: str) -> int:
        """Rows, requests, tokens."""
        return self.sums[name]

    def energy(self, *names: str) -> EnergyAmount:
        """The sum of so many columns of energy."""
        return EnergyAmount.of_quanta(sum(self.sums[name] for name in names))

    def mass(self, *names: str) -> CarbonMass:
        """The sum of so many columns of grams."""
        return CarbonMass.of_quanta(sum(self.sums[name] for name in names))

    def priced(self, energy: str, mass: str) -> CarbonMass | None:
        """Grams of one column of energy; None where there is energy and none of it can have an
        intensity."""
        quanta = self.sums[energy]
        if quanta > 0 and not self.sums[mass] and self.sums["unpriced_q"] >= quanta:
            return None
        return self.mass(mass)

    def operational(self) -> CarbonMass | None:
        """Location-based grams; None where there is energy and none of it has an intensity."""
        return self.priced("facility_q", "operational_g")

    def plus(self, other: GroupSums) -> GroupSums:
        """Both together, under this one's name."""
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        return GroupSums(self.group, sums)

    def embodied(self) -> CarbonMass | None:
        """None where nothing is known of it: an hour's share is over 0 wherever there is one."""
        return self.mass("embodied_g") if self.sums["embodied_g"] else None


class ZoneHour(NamedTuple):
    """One hour of a grid zone, in all or of a group. ``source``, ``kind``: of the location-based
    factor; ``revision`` 0: as on receipts; ``market_g_per_kwh``: None where it is not known."""

    hour: int
    grid_zone: str
    figures: GroupSums
    source: str
    kind: str
    revision: int
    observed_us: int | None
    market_g_per_kwh: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. ``total``: of everybody; ``groups``: in order of their names. ``kinds``: IT energy
    in quanta by group and how it is known. ``home``: by group, of requests whose origin is one of
    the regions. ``waited``: by group and basis. ``market``: by ``per:group``, "" for all,
    market-based grams and the energy that they are of, both in quanta; empty without factors."""

    question: ReportQuestion
    version: str
    total: GroupSums
    groups: tuple[GroupSums, ...]
    hours: tuple[ZoneHour, ...]
    group_hours: tuple[ZoneHour, ...]
    kinds: Mapping[str, Mapping[str, int]]
    home: Mapping[str, AtHome]
    waited: tuple[WaitedWork, ...]
    market: Mapping[str, tuple[int, int]]
    unmade_hours: Mapping[str, int]
    lost: tuple[LostRows, ...]
    errors: tuple[IntensityError, ...]
    coefficients: tuple[Coefficient, ...]
    files: tuple[ReadFile, ...]
    digest: str

    @property
    def month(self) -> Month:
        """Of the question."""
        return self.question.month

    @property
    def per(self) -> Per:
        """Of the question."""
        return self.question.per


def gather(question: ReportQuestion) -> Report:
    """Read the month. Raises ConfigError, DataError and MixedBasisError."""
    connection = open_ledger(question.ledger, question.threads, question.memory)
    from router.ledger.fleet_hours import fill_fleet
    from router.ledger.home_region import at_home
    from router.ledger.hour_cells import build_cells
    from router.ledger.intensity_uses import build_uses, intensity_errors
    from router.ledger.lost_rows import lost_rows, told_gaps, with_reasons
    from router.ledger.priced_cells import make_inputs, price_cells
    from router.ledger.waiting_savings import waited_work

    month = question.month
    files = read_files(question.ledger, month)
    with told(question.ledger):
        gaps = told_gaps(links_of(question.ledger, files), month)
        lost = with_reasons(lost_rows(connection, month), gaps)
        # A page is of a model, whoever the report is for.
        dimensions = [str(Per.MODEL), str(question.per)]
        build_cells(connection, month, [one for one in dimensions if one != Per.REGION])
        build_uses(connection, month)
    if not connection.execute("SELECT 1 FROM cells LIMIT 1").fetchall():
        raise DataError(f"{question.ledger}: no receipt ended in {month}")
    _same_factors(connection, question.factors)
    make_inputs(connection)
    with told(question.ledger):
        fill_fleet(connection, month, question.factors)
    coefficients = _fill(connection, question)
    price_cells(connection, question.factors)
    market = _market(connection, question)
    with told(question.ledger):
        home = at_home(connection, month, str(question.per))
        waited = waited_work(connection, month, str(question.per))
    return Report(
        question=question,
        version=__version__,
        total=_figures(connection, "''", "")[0],
        groups=tuple(_figures(connection, question.per, "")),
        hours=tuple(_zone_hours(connection, "''", question)),
        group_hours=tuple(_zone_hours(connection, str(question.per), question)),
        kinds=_kinds(connection, question.per),
        home=home,
        waited=tuple(waited),
        market=market,
        unmade_hours=dict(_pairs(connection, question.per, "sum(unmade_hours)")),
        lost=tuple(lost),
        errors=tuple(intensity_errors(connection)),
        coefficients=tuple(coefficients),
        files=tuple(files),
        digest=digest_of(files),
    )


def _same_factors(connection: duckdb.DuckDBPyConnection, wanted: Factors) -> None:
    found = connection.execute(
        f"SELECT DISTINCT factors FROM cells WHERE basis = '{Basis.AVERAGE}' AND g_q > 0 ORDER BY 1"
    ).fetchall()
    names = [name for (name,) in found]
    if names and wanted not in names:
        raise MixedBasisError(
            f"receipts of this month are of {', '.join(names)} factors, and the report is asked "
            f"for {wanted}: give --factors {names[0]}"
        )


def _fill(connection: duckdb.DuckDBPyConnection, question: ReportQuestion) -> list[Coefficient]:
    """The tables that cells are priced by; returns what of them is used, as coefficients."""
    from router.ledger.prices import read_prices

    prices = read_prices(question.ledger)
    marginal = {key.factors for key in prices if key.basis is Basis.MARGINAL}
    if len(marginal) > 1:
        raise MixedBasisError(f"marginal prices are of {', '.join(sorted(marginal))} factors")
    _insert(
        connection,
        "price_rows",
        (
            (
                key.grid_zone, key.hour, str(key.basis), str(key.factors), one.g_per_kwh,
                one.low_g_per_kwh, one.high_g_per_kwh, str(one.kind), one.source, price.revision,
                round(one.observed_at * 1e6),
            )
            for key, price in sorted(prices.items())
            if question.month.first_hour <= key.hour < question.month.end_hour
            for one in (price.measured,)
        ),
    )  # fmt: skip
    pues = read_pue(question.pue, question.month) if question.pue else []
    _insert(connection, "pue_rows", ((one.region, one.pue) for one in pues))
    profiles = [
        name
        for (name,) in connection.execute(
            "SELECT DISTINCT profile FROM cells WHERE profile <> '' ORDER BY 1"
        ).fetchall()
    ]
    hardware = embodied_table(question.embodied)
    made = {}
    for name in profiles:
        group = hardware_of(name)
        if group and group[1] in hardware:
            made[name] = (group[0], hardware[group[1]])
    rates = ((name, gpus * one.g_per_gpu_hour) for name, (gpus, one) in made.items())
    _insert(connection, "embodied_rows", rates)
    shipped = gpu_shares()
    # Of one that was calibrated as of that which it was before.
    bases = {name: name_before_calibration(name) for name in profiles}
    shares = {name: shipped[base] for name, base in bases.items() if base in shipped}
    _insert(connection, "gpu_rows", shares.items())
    receipted = connection.execute(
        "SELECT region, pue FROM cells WHERE region <> '' AND it_q > 0 GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return _coefficients(receipted, pues, {one.hardware: one for _, one in made.values()}, shares)


def _coefficients(
    receipted: Iterable[tuple[str, float]],
    pues: Sequence[Pue],
    hardware: Mapping[str, Embodied],
    shares: Mapping[str, float],
) -> list[Coefficient]:
    given = {one.region: one for one in pues}
    found = []
    for region, pue in receipted:
        other = given.get(region)
        source = other.source if other else "receipts, as configured then"
        value = other.pue if other else pue
        found.append(Coefficient(f"PUE, {region}", value, "", source, "sourced"))
    for one in hardware.values():
        found += [
            Coefficient(
                f"TE, {one.hardware}", one.te_g / 1000.0, "kgCO2e/GPU", one.source, "sourced"
            ),
            Coefficient(f"EL, {one.hardware}", one.lifetime_h, "h", one.source, "sourced"),
        ]
    for name, share in sorted(shares.items()):
        source = "profile at the load that it is meant for"
        found.append(
            Coefficient(f"GPUs' share of IT energy, {name}", share, "", source, "modelled")
        )
    return list(dict.fromkeys(found))


def _market(
    connection: duckdb.DuckDBPyConnection, question: ReportQuestion
) -> dict[str, tuple[int, int]]:
    """Market-based grams and the energy that they are of, in quanta, by group; "" is all."""
    connection.execute("CREATE TEMP TABLE market_rows (grid_zone VARCHAR, hour BIGINT, g DOUBLE)")
    if question.market is None:
        return {}
    factors: list[MarketFactor] = read_market(question.market)
    used = connection.execute(
        "SELECT grid_zone, hour, sum(facility_q) FROM lines WHERE grid_zone <> '' GROUP BY ALL"
    ).fetchall()
    energy = {(zone, hour): EnergyAmount.of_quanta(total).kwh for zone, hour, total in used}
    prices = market_prices(factors, energy)
    _insert(connection, "market_rows", ((*place, g) for place, g in prices.items()))
    from router.ledger.priced_cells import GRAMS_PER_QUANTUM

    found = {}
    for group in ("''", str(question.per)):
        rows = connection.execute(
            f"""
            SELECT {group}, sum(CAST(round(facility_q * g * {GRAMS_PER_QUANTUM}) AS HUGEINT)),
                sum(facility_q) FROM lines JOIN market_rows USING (grid_zone, hour) GROUP BY ALL
            """
        ).fetchall()
        for name, grams, known in rows:
            found["" if group == "''" else f"{group}:{name}"] = (int(grams), int(known))
    return found


def _figures(connection: duckdb.DuckDBPyConnection, group: str, where: str) -> list[GroupSums]:
    from router.ledger.priced_cells import SUMS

    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS)
    rows = connection.execute(
        f"SELECT {group}, {sums} FROM lines {where} GROUP BY {group} ORDER BY 1"
    ).fetchall()
    return [GroupSums(row[0], dict(zip(SUMS, map(int, row[1:]), strict=True))) for row in rows]


def _zone_hours(
    connection: duckdb.DuckDBPyConnection, group: str, question: ReportQuestion
) -> Iterable[ZoneHour]:
    from router.ledger.priced_cells import SUMS

    sums = ", ".join(f"coalesce(sum({name}), 0)::HUGEINT AS {name}" for name in SUMS)
    names = ", ".join(f"l.{name}" for name in SUMS)
    rows = connection.execute(
        f"""
        WITH l AS (
            SELECT hour, grid_zone, {group} AS told, {sums} FROM lines
            WHERE facility_q <> 0 OR rows > 0 OR embodied_g > 0 GROUP BY ALL
        ), vintages AS (
            SELECT hour, grid_zone, string_agg(DISTINCT source, '; ' ORDER BY source) AS source,
                string_agg(DISTINCT kind, '; ' ORDER BY kind) AS kind,
                max(observed_us) AS observed_us
            FROM uses WHERE basis = '{Basis.AVERAGE}' AND factors = '{question.factors}'
            GROUP BY ALL
        )
        SELECT hour, grid_zone, l.told, coalesce(p.source, v.source, ''),
            coalesce(p.kind, v.kind, ''), coalesce(p.revision, 0),
            coalesce(p.observed_us, v.observed_us), m.g, {names}
        FROM l LEFT JOIN vintages v USING (hour, grid_zone)
        LEFT JOIN (SELECT * FROM price_rows WHERE basis = '{Basis.AVERAGE}'
            AND factors = '{question.factors}') p USING (hour, grid_zone)
        LEFT JOIN market_rows m USING (hour, grid_zone)
        ORDER BY hour, grid_zone, l.told
        """
    ).fetchall()
    for hour, zone, told_for, source, kind, revision, observed, market_g, *found in rows:
        figures = GroupSums(told_for, dict(zip(SUMS, map(int, found), strict=True)))
        yield ZoneHour(hour, zone, figures, source, kind, revision, observed, market_g)


def _kinds(connection: duckdb.DuckDBPyConnection, per: Per) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    rows = connection.execute(
        f"SELECT {per}, energy_kind, sum(it_q) FROM lines WHERE it_q > 0 GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    for group, kind, quanta in rows:
        found.setdefault(group, {})[kind or "unknown"] = int(quanta)
    return found


def _pairs(connection: duckdb.DuckDBPyConnection, per: Per, what: str) -> Iterable[tuple[str, int]]:
    rows = connection.execute(f"SELECT {per}, {what} FROM lines GROUP BY ALL ORDER BY 1").fetchall()
    return ((group, int(value)) for group, value in rows)


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    """By Arrow: a row at a time takes a minute for the prices of a month."""
    import pyarrow as pa

    listed = list(rows)
    if not listed:
        return
    columns = [pa.array(list(column)) for column in zip(*listed, strict=True)]
    given = pa.Table.from_arrays(columns, names=[f"c{at}" for at in range(len(columns))])
    connection.register("given", given)
    connection.execute(f"INSERT INTO {table} SELECT * FROM given")
    connection.unregister("given")
