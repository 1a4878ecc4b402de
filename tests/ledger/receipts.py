"""Ledgers of many receipts, made at once: columns by numpy, files as any writer seals them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from router.ledger.columns import G_QUANTUM, J_QUANTUM
from router.ledger.sealed_files import Head, seal, seal_rows
from router.ledger.tables import ENERGY, RECEIPTS

# Name, grid zone, PUE, mean g/kWh.
REGIONS = (
    ("us-west", "US-CAL-CISO", 1.125, 240.0),
    ("us-east", "US-MIDA-PJM", 1.25, 400.0),
    ("eu-north", "SE", 1.1, 30.0),
)
MODELS = ("llama-3.1-8b", "llama-3.1-70b", "sd3")
PROFILES = ("llama-3.1-8b@1xh100", "llama-3.1-70b@4xh100", None)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def quantised(values: np.ndarray, quantum: float) -> np.ndarray:
    return np.round(values / quantum) * quantum


def receipts(
    rows: int,
    start: datetime = NOVEMBER,
    hours: float = 720.0,
    seed: int = 1,
    longest_s: float = 30.0,
    after: int = 0,
) -> pa.Table:
    """Rows in order of their end. A few are moved, cancelled, failed or refused; some models lack
    this or that figure."""
    rng = np.random.default_rng(seed)
    first_us = round(start.timestamp() * 1e6)
    ended = np.sort(rng.integers(first_us, first_us + round(hours * 3.6e9), rows))
    model = rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    region = rng.choice(3, rows)
    outcome = rng.choice(5, rows, p=[0.9, 0.03, 0.03, 0.02, 0.02])
    refused = outcome == 3
    run_s = np.float32(rng.gamma(2.0, longest_s / 10.0, rows))
    energy = quantised(rng.gamma(2.0, 60.0, rows), J_QUANTUM)
    network = quantised(rng.gamma(2.0, 0.05, rows), J_QUANTUM)
    pue = np.array([one[2] for one in REGIONS])[region]
    day = np.sin(ended / 3.6e9 / 24 * 2 * np.pi)
    g_per_kwh = np.array([one[3] for one in REGIONS])[region] * (1.0 + 0.2 * day)
    grams = quantised((energy * pue + network) / 3.6e6 * g_per_kwh, G_QUANTUM)
    unknown = refused | (rng.random(rows) < 0.001)
    names = {
        "outcome": (outcome, ("answered", "failed", "cancelled", "refused", "moved")),
        "model": (model, MODELS),
        "tenant": (rng.integers(0, 5, rows), tuple(f"team-{at}" for at in range(5))),
        "region": (np.where(refused, -1, region), tuple(one[0] for one in REGIONS)),
        "grid_zone": (np.where(refused, -1, region), tuple(one[1] for one in REGIONS)),
        "endpoint": (
            np.where(refused, -1, region * 3 + model),
            tuple(f"{one[0]}-{m}" for one in REGIONS for m in MODELS),
        ),
        "profile": (np.where(refused | (model == 2), -1, model), PROFILES[:2]),
        "energy_kind": (np.where(unknown, -1, model), ("estimated", "measured", "calibrated")),
        "origin": (rng.integers(0, 3, rows), tuple(one[0] for one in REGIONS)),
        "tokens_kind": (np.where(refused, -1, 0), ("reported",)),
        "basis": (np.where(refused, -1, 0), ("average",)),
        "factors": (np.where(refused, -1, 0), ("lifecycle",)),
        "intensity_kind": (np.where(refused, -1, region % 2), ("forecast", "measured")),
        "intensity_source": (np.where(refused, -1, 0), ("grid-operator",)),
        "marginal_kind": (np.where(refused, -1, 0), ("estimated",)),
        "marginal_source": (np.where(refused, -1, 0), ("model",)),
        "policy": (np.zeros(rows, int), ("carbon-first",)),
    }
    given = {
        "finished_at": ended,
        "run_s": (run_s, refused),
        "attempt": (np.ones(rows, int), None),
        "client_retries": ((rng.random(rows) < 0.02).astype(int), None),
        "input_tokens": (rng.integers(10, 2000, rows), None),
        "cached_tokens": (rng.integers(0, 10, rows), None),
        # What is no language model answers with one token.
        "output_tokens": (np.where(model == 2, 1, rng.integers(1, 800, rows)), refused),
        "energy_j": (energy, unknown),
        "energy_low_j": (np.float32(energy * 0.75), unknown | (model % 2 == 1)),
        "energy_high_j": (np.float32(energy * 1.5), unknown | (model % 2 == 1)),
        "prompt_energy_j": (np.float32(energy * 0.1), unknown),
        "network_j": (network, refused),
        "pue": (pue, refused),
        "g_per_kwh": (g_per_kwh, refused),
        "low_g_per_kwh": (np.float32(g_per_kwh * 0.9), refused),
        "high_g_per_kwh": (np.float32(g_per_kwh * 1.1), refused),
        "gco2e": (grams, unknown),
        "marginal_g_per_kwh": (np.float32(g_per_kwh * 1.5), refused),
        "predicted_gco2e": (np.float32(grams), unknown),
        "latency_first_gco2e": (np.float32(grams * 1.3), unknown),
    }
    observed = ended - round(2.5 * 3.6e9)
    arrays = []
    for field in RECEIPTS.schema:
        if field.name == "writer":
            array = pa.array(np.repeat("gw-1", rows)).dictionary_encode()
        elif field.name == "seq":
            array = pa.array(np.arange(after + 1, after + rows + 1))
        elif field.name == "decision_id":
            array = pa.array(np.char.mod("%08x", np.arange(rows)))
        elif field.name in names:
            code, texts = names[field.name]
            at = pa.array(np.where(code < 0, 0, code).astype(np.int32), mask=code < 0)
            array = pa.DictionaryArray.from_arrays(at, pa.array(texts))
        elif field.name == "finished_at":
            array = pa.array(ended).cast(field.type)
        elif field.name == "intensity_observed_at":
            array = pa.array(observed).cast(field.type)
        elif field.name in given:
            values, mask = given[field.name]
            array = pa.array(values, mask=mask).cast(field.type)
        else:
            array = pa.nulls(rows, field.type)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=RECEIPTS.schema)


def ledger_of(table: pa.Table, root: Path) -> Path:
    """A ledger of ``table`` alone."""
    seal_hours(table, root, Head())
    return root


def seal_hours(table: pa.Table, root: Path, head: Head) -> Head:
    """Seal ``table`` by the hour, one link a file, as a writer does."""
    hour = table.column("finished_at").cast(pa.int64()).to_numpy() // 3_600_000_000
    edges = np.flatnonzero(np.diff(hour)) + 1
    for begin, end in zip([0, *edges], [*edges, table.num_rows], strict=True):
        _, link = seal(RECEIPTS, table.slice(begin, end - begin), root, "gw-1", head)
        head = Head(link.link, link.hash, link.last_seq)
    return head


def fleet_energy_rows(table: pa.Table, hours: int, start: datetime = NOVEMBER) -> dict[int, list]:
    """By hour, cells of `ENERGY` (`router.ledger.tables`): each endpoint once an hour, with a meter
    that counts a tenth more than receipts and idle, and a gateway in the first region."""
    first_us = round(start.timestamp() * 1e6)
    ended = (table.column("finished_at").cast(pa.int64()).to_numpy() - first_us) // 3_600_000_000
    endpoints = table.column("endpoint").to_pandas().astype(object)
    joules = table.column("energy_j").to_pandas().fillna(0.0)
    drawn = joules.groupby([ended, endpoints]).sum()
    found: dict[int, list] = {}
    for hour in range(hours):
        since = first_us + hour * 3_600_000_000
        rows = []
        for region, zone, pue, g_per_kwh in REGIONS:
            for at, model in enumerate(MODELS):
                name, idle_j = f"{region}-{model}", 1000.0 * (at + 1)
                whole = np.array([(drawn.get((hour, name), 0.0) + idle_j) * 1.1])
                metered_j = float(quantised(whole, J_QUANTUM)[0])
                rows.append((
                    since, since + 3_600_000_000, "endpoint", name, region, zone, PROFILES[at],
                    3000.0, idle_j, 600.0, 5000.0, "estimated", "profile", metered_j, pue,
                    g_per_kwh, "average", "lifecycle", "measured", "grid-operator",
                ))  # fmt: skip
        region, zone, pue, g_per_kwh = REGIONS[0]
        rows.append((
            since, since + 3_600_000_000, "gateway", None, region, zone, None, None, None, 100.0,
            900.0, "estimated", "9 W a core", None, pue, g_per_kwh, "average", "lifecycle",
            "measured", "grid-operator",
        ))  # fmt: skip
        found[hour] = rows
    return found


def add_energy(root: Path, table: pa.Table, hours: int) -> Path:
    """Seal `fleet_energy_rows` of ``table`` into its ledger."""
    head = Head()
    for rows in fleet_energy_rows(table, hours).values():
        _, link = seal_rows(ENERGY, rows, root, "gw-1", head)
        head = Head(link.link, link.hash, link.last_seq)
    return root
