"""Compute the workload tables of ``router/data`` from the reference traces.

Run by maintainers: ``python tools/build_workloads.py [--shared DIR] [--check]``; the results are
checked in and ``--check`` recomputes them. ``router/data/README.md`` says what each table is.

* ``workload_lengths.csv``: quantiles of input and output tokens of four ServeGen workloads (as
  published) and of the Azure 2023 conversation trace (computed here).
* ``workload_shapes.csv``: demand by hour of the local day and by day of the week, each of mean 1;
  and ``burst_cv``, the spread of the rate around that shape over ``burst_window_s``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "router" / "data"
TRACES = Path("data/llm-traces")
SERVEGEN = ("m-large", "m-mid", "m-small", "deepseek-r1")
# Workloads whose fourteen days have a stable daily shape; the others have one day, or zeros.
SHAPED = ("m-large", "m-small")
# Local summer time of the Wikipedia set (August and September 2022), less UTC.
WIKI_OFFSETS_H = {
    "ap-southeast-2": 10,
    "eu-central-1": 2,
    "eu-west-3": 2,
    "us-east-1": -4,
    "us-east-2": -4,
    "us-west-1": -7,
}
HOURS = tuple(f"h{hour:02d}" for hour in range(24))
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Values = NDArray[np.float64]


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV or gzipped CSV file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    yield from csv.DictReader(io.StringIO(text))


class Tables:
    """The tables as CSV text, computed from the data under ``shared``."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared

    def all(self) -> dict[str, str]:
        """File name to text."""
        return {"workload_lengths.csv": self.lengths(), "workload_shapes.csv": self.shapes()}

    def lengths(self) -> str:
        """Quantiles in tokens: as published for ServeGen, counted for Azure."""
        published = list(rows_of(self._shared / TRACES / "servegen/token_length_quantiles.csv"))
        probabilities = [name for name in published[0] if name.startswith("p")]
        rows = []
        for workload in SERVEGEN:
            for field in ("input_tokens", "output_tokens"):
                (row,) = (r for r in published if (r["workload"], r["field"]) == (workload, field))
                cells = [row[name] for name in (*probabilities, "max")]
                rows.append([f"servegen-{workload}", field, row["mean"], *cells])
        counted = list(rows_of(self._shared / TRACES / AZURE))
        for field, column in (
            ("input_tokens", "ContextTokens"),
            ("output_tokens", "GeneratedTokens"),
        ):
            tokens = np.array([int(row[column]) for row in counted])
            share = [float(name[1:]) / 100.0 for name in probabilities]
            cut = np.quantile(tokens, share, method="inverted_cdf").tolist()
            rows.append(["azure-2023-conv", field, f"{tokens.mean():.1f}", *cut, int(tokens.max())])
        return _csv(["name", "field", "mean", *probabilities, "max"], rows)

    def shapes(self) -> str:
        """Rows: two ServeGen workloads, six Wikipedia regions, and the mean of those six."""
        rows = [self._servegen(workload) for workload in SHAPED]
        wiki = self._wiki()
        rows += [_row(f"wiki-{region}", *shape) for region, shape in wiki.items()]
        hours = np.mean([shape[0] for shape in wiki.values()], axis=0)
        days = np.mean([shape[1] for shape in wiki.values()], axis=0)
        spread = float(np.mean([shape[2] for shape in wiki.values()]))
        rows.append(_row("wiki", hours, days, spread, 3600))
        return _csv(["name", "burst_cv", "burst_window_s", *HOURS, *DAYS], rows)

    def _servegen(self, workload: str) -> list[object]:
        """Hours from local midnight; the calendar is not published, so all days count alike."""
        path = self._shared / TRACES / "servegen/aggregate_rate_10min.csv"
        rates = [float(r["rate_rps"]) for r in rows_of(path) if r["workload"] == workload]
        by_day = np.array(rates).reshape(-1, 24, 6)
        level = by_day.mean(axis=(1, 2), keepdims=True)
        relative = by_day / level
        hours = relative.mean(axis=(0, 2))
        # Around the mean of its own hour: what comes and goes faster than the hour.
        around = by_day / np.maximum(by_day.mean(axis=2, keepdims=True), 1e-9)
        name = f"servegen-{workload}"
        return _row(name, hours / hours.mean(), np.ones(7), float(around.std()), 600)

    def _wiki(self) -> dict[str, tuple[Values, Values, float, int]]:
        """By region: local hours, local weekdays, spread of one hour around the two."""
        path = self._shared / "data/geo-demand-wiki-2022/wiki_requests_per_region_hourly.csv"
        rows = list(rows_of(path))
        found = {}
        for region, offset_h in WIKI_OFFSETS_H.items():
            counts = np.array([float(row[region] or "nan") for row in rows])
            # Hours under a fifth of the usual are dropouts of the count, not of demand.
            counts[counts < 0.2 * _usual(counts)] = np.nan
            local = [_local(row["datetime_utc"], offset_h) for row in rows]
            hour = np.array([when.hour for when in local])
            day = np.array([when.weekday() for when in local])
            hours = np.array([np.nanmean(counts[hour == h]) for h in range(24)])
            days = np.array([np.nanmean((counts / hours[hour])[day == d]) for d in range(7)])
            expected = hours[hour] * days[day]
            spread = float(np.nanstd(counts / expected))
            found[region] = (hours / hours.mean(), days / days.mean(), spread, 3600)
        return found


AZURE = Path("azure-2023/AzureLLMInferenceTrace_conv.csv.gz")


def _usual(counts: Values) -> Values:
    """The median of the same UTC hour; shape as ``counts``."""
    by_hour = np.array([np.nanmedian(counts[start::24]) for start in range(24)])
    return by_hour[np.arange(len(counts)) % 24]


def _local(stamp: str, offset_h: int) -> datetime:
    return datetime.strptime(stamp, "%Y-%m-%dT%H:%MZ") + timedelta(hours=offset_h)


def _row(name: str, hours: Values, days: Values, spread: float, window_s: int) -> list[object]:
    values = [f"{value:.4f}" for value in (*hours.tolist(), *days.tolist())]
    return [name, f"{spread:.3f}", window_s, *values]


def _csv(header: list[str], rows: list[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def differing(shared: Path) -> Mapping[str, str]:
    """Names and texts of the tables that are not as checked in."""
    return {
        name: text
        for name, text in Tables(shared).all().items()
        if not (DATA / name).exists() or (DATA / name).read_text("utf-8") != text
    }


def main() -> int:
    """Write or check every table; 0 when written, or when nothing differs."""
    parser = argparse.ArgumentParser(description="Compute the workload tables of router/data.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    changed = differing(options.shared)
    for name, text in changed.items():
        if options.check:
            print(f"{name}: differs from what is checked in", file=sys.stderr)
        else:
            (DATA / name).write_text(text, "utf-8")
            print(f"{name}: {len(text.encode())} bytes")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
