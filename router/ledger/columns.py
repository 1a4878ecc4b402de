"""The columns of the ledger's receipts: one row an attempt, or a refusal.

A request has one row that ends it and, before that, one for each endpoint that it was moved from;
they share its ``decision_id``. Every row has one grid zone and one span of time, so that it is
priced, and priced anew, alike. A cell that is null is not known, never 0.

Joules and grams are rounded to powers of two: sums of them are exact, in any order, by anybody's
engine, and their last bits take no room on the disk.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

# Of every figure in J, and in g: about a microjoule, and 60 ng. Sums are exact up to 2^33 J and
# 2^29 g.
J_QUANTUM: Final = 2.0**-20
G_QUANTUM: Final = 2.0**-24

# Of the files' metadata: another number is another format. Those before are read: what each lacks
# is null (`Column.since`).
VERSION: Final = 2


class CellType(StrEnum):
    """How a cell is stored. ``NAME``: of few different ones; ``TIME``: microseconds, UTC."""

    NAME = "name"
    TEXT = "text"
    TIME = "time"
    COUNT = "count"
    SMALL_COUNT = "small_count"
    SINGLE = "single"
    DOUBLE = "double"


class Column(NamedTuple):
    """``unit``: "" of what has none; ``since``: the first version of the format that has it."""

    name: str
    type: CellType
    unit: str
    meaning: str
    nullable: bool = True
    since: int = 1


_N, _C, _S, _D = CellType.NAME, CellType.COUNT, CellType.SINGLE, CellType.DOUBLE

RECEIPT_COLUMNS: Final = (
    Column("writer", _N, "", "the process that wrote it, as its configuration names it", False),
    Column("seq", _C, "", "1, 2, ... of that writer: one that is missing is a lost row", False),
    Column("decision_id", CellType.TEXT, "", "of the request; null where none was decided"),
    Column("finished_at", CellType.TIME, "UTC", "when the attempt, or the request, ended", False),
    Column("run_s", _S, "s", "from the attempt's departure to its end"),
    Column("ttft_ms", _S, "ms", "to the first token, from the request's arrival, as measured"),
    Column("e2e_ms", _S, "ms", "from the request's arrival to this end, as measured"),
    Column("outcome", _N, "", "answered, failed, cancelled, refused; moved: it went on", False),
    Column("reason", _N, "", "machine-readable, of what is not answered"),
    Column("attempt", CellType.SMALL_COUNT, "", "1, 2, ... of the request; 0: refused", False),
    Column("client_retries", CellType.SMALL_COUNT, "", "how often its client asked before", False),
    Column("model", _N, "", "as the request names it", False),
    Column("version", _N, "", "of the model, where one was named"),
    Column("tenant", _N, "", "whose request, else who called; hashed where the operator says so"),
    Column("origin", _N, "", "where it came from"),
    Column("residency", _N, "", "regions that it may run in, joined by ;"),
    Column("policy", _N, "", "that decided"),
    Column("endpoint", _N, "", "that it went to"),
    Column("region", _N, "", "of the endpoint"),
    Column("grid_zone", _N, "", "of the region"),
    Column("profile", _N, "", "hardware profile by which the endpoint's joules are estimated"),
    Column("ttft_budget_ms", _S, "ms", "the request's own"),
    Column("tpot_budget_ms", _S, "ms", "the request's own"),
    Column("e2e_budget_ms", _S, "ms", "the request's own"),
    Column("max_output_tokens", _C, "tokens", "the request's own limit"),
    Column("input_tokens", _C, "tokens", "of the prompt"),
    Column("input_kind", _N, "", "reported by the server, or stated by the caller"),
    Column("cached_tokens", _C, "tokens", "of the prompt, not read because they were cached"),
    Column("cached_kind", _N, "", "reported or expected"),
    Column("output_tokens", _C, "tokens", "of the answer, or of what came of it"),
    Column("tokens_kind", _N, "", "reported, counted, estimated, assumed"),
    Column("tokens_low", _C, "tokens", "90 % interval of what is not reported or counted"),
    Column("tokens_high", _C, "tokens", ""),
    Column("energy_j", _D, "J", "IT energy, attributional; rounded to 2^-20 J"),
    Column("energy_kind", _N, "", "measured, calibrated, profile, estimated, emulated"),
    Column("energy_low_j", _S, "J", "90 % interval of an estimate"),
    Column("energy_high_j", _S, "J", ""),
    Column("prompt_energy_j", _S, "J", "of energy_j: reading the prompt"),
    Column("marginal_energy_j", _S, "J", "IT energy, short-run marginal"),
    Column("network_j", _D, "J", "of carrying it, by payload; rounded to 2^-20 J"),
    Column("pue", _D, "", "of the region; facility energy is energy_j * pue + network_j"),
    Column("g_per_kwh", _D, "g/kWh", "mean intensity over the run, location-based, as known then"),
    Column("low_g_per_kwh", _S, "g/kWh", "90 % interval"),
    Column("high_g_per_kwh", _S, "g/kWh", ""),
    Column("basis", _N, "", "average or marginal"),
    Column("factors", _N, "", "lifecycle, direct or none"),
    Column("intensity_kind", _N, "", "measured, estimated, forecast, climatology, annual_mean"),
    Column("intensity_source", _N, "", "who says so"),
    Column("intensity_observed_at", CellType.TIME, "UTC", "when that was known"),
    Column("gco2e", _D, "g", "facility energy at g_per_kwh; rounded to 2^-24 g"),
    Column("marginal_g_per_kwh", _S, "g/kWh", "marginal intensity of the hour; never to be added"),
    Column("marginal_kind", _N, "", "as intensity_kind"),
    Column("marginal_source", _N, "", "who says so"),
    Column("predicted_gco2e", _S, "g", "as predicted at the decision, attributional"),
    Column("latency_first_gco2e", _S, "g", "the same request on the nearest feasible endpoint"),
    Column("flags", _N, "", "of the receipt, joined by ;"),
    Column("variant", _N, "", "where model is an alias: the model that served it"),
    Column("quality", _S, "", "of that variant, by the alias's source"),
    Column("quality_floor", _S, "", "least quality that it had to have; null: any"),
    Column(
        "other_variants", CellType.TEXT, "", "variants that it was not: quality, and g as predicted"
    ),
    Column("waited_s", _S, "s", "of what could wait: how long it did; null: it did not", since=2),
    Column("at_once_region", _N, "", "where it would have run without, as decided then", since=2),
    Column("at_once_g_per_kwh", _D, "g/kWh", "intensity there, as known when it came", since=2),
    Column("at_once_kind", _N, "", "of that, as intensity_kind", since=2),
    Column("at_once_basis", _N, "", "of that: basis and factors, joined by /", since=2),
    Column(
        "at_once_gco2e", _D, "g",
        "the same joules there and then: less gco2e, it is what waiting saved; rounded to 2^-24 g",
        since=2,
    ),
)  # fmt: skip

# What the fleet drew beside its requests, and the gateway itself: one row a span of some minutes,
# which never goes past an hour.
ENERGY_COLUMNS: Final = (
    Column("writer", _N, "", "the process that wrote it, as its configuration names it", False),
    Column("seq", _C, "", "1, 2, ... of that writer: one that is missing is a lost row", False),
    Column("since", CellType.TIME, "UTC", "when the span began", False),
    Column("until", CellType.TIME, "UTC", "when it ended", False),
    Column("part", _N, "", "endpoint, or gateway: a process of its own", False),
    Column("endpoint", _N, "", "null of a gateway"),
    Column("region", _N, "", "where that is"),
    Column("grid_zone", _N, "", "of the region"),
    Column("profile", _N, "", "by which its watts are known"),
    Column("idle_s", _D, "s", "it was there, and had no request"),
    Column("idle_j", _D, "J", "IT energy of that, by the profile; rounded to 2^-20 J"),
    Column("awake_s", _D, "s", "it had requests; of a gateway: seconds of processor time"),
    Column("awake_j", _D, "J", "IT energy of that, by the profile; rounded to 2^-20 J"),
    Column("energy_kind", _N, "", "of idle_j and awake_j, as of receipts"),
    Column("source", _N, "", "where the watts come from"),
    Column("metered_j", _D, "J", "IT energy, idle and awake, by a meter; source says which"),
    Column("pue", _D, "", "of the region"),
    Column("g_per_kwh", _D, "g/kWh", "mean intensity over the span, location-based"),
    Column("basis", _N, "", "average or marginal"),
    Column("factors", _N, "", "lifecycle, direct or none"),
    Column("intensity_kind", _N, "", "measured, estimated, forecast, climatology, annual_mean"),
    Column("intensity_source", _N, "", "who says so"),
)  # fmt: skip
