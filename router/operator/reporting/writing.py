"""A report as files of one folder, the same bytes whenever the same ledger is asked the same."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from router.errors import DataError
from router.ledger.asking.csv_rows import harmless
from router.operator.reporting.gather import Per, Report
from router.operator.reporting.impact_framework import manifest
from router.operator.reporting.spdx import spdx
from router.operator.reporting.tables import Row, tables

# Of a model's name in that of a file: most disks take 255, with what is before and behind.
_MOST_NAME_BYTES: Final = 120


def files_of(report: Report, command: str) -> dict[str, bytes]:
    """By name. ``command``: that made it, for who recomputes it."""
    from router.operator.reporting.page.page import page

    found: dict[str, bytes] = {}
    told = tables(report)
    for name, rows in told.items():
        # A table without a row is not there; report.json has it, empty.
        if rows:
            found[f"{name}.csv"] = _csv(rows)
            found[f"{name}.parquet"] = _parquet(rows)
    found["impact-framework.yaml"] = manifest(report).encode()
    found["report.json"] = _json(report, command, told)
    if report.per is Per.MODEL:
        # Callers make up names: of what nobody answered there is a row in tables, and no page.
        served = [one for one in report.groups if one.group and one.count("answered")]
        names = file_names([one.group for one in served])
        for one in served:
            name = names[one.group]
            found[f"spdx-{name}.json"] = spdx(report, one).encode()
            found[f"transparency-{name}.html"] = page(report, one, command).encode()
    return found


def write_files(files: Mapping[str, bytes], out: Path) -> None:
    """Raises DataError where ``out`` holds another report: nothing is overwritten by another."""
    out.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        path = out / name
        if path.exists() and path.read_bytes() != body:
            raise DataError(f"{path} is there already and is another: give another --out")
    for name, body in files.items():
        (out / name).write_bytes(body)


def file_name(text: str) -> str:
    """``text`` as part of a file's name."""
    return "".join(one if one.isalnum() or one in "-._" else "_" for one in text) or "_"


def file_names(texts: Sequence[str]) -> dict[str, str]:
    """By text: part of a file's name, none of them another's, whatever a disk takes as the same."""
    plain = {text: file_name(text) for text in texts}
    uses = Counter(name.casefold() for name in plain.values())
    return {
        text: name
        if uses[name.casefold()] == 1 and len(name.encode()) <= _MOST_NAME_BYTES
        else f"{_cut(name)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        for text, name in plain.items()
    }


def _cut(name: str) -> str:
    return name.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(cell) for name, cell in row.items()} for row in rows)
    return text.getvalue().encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _json(report: Report, command: str, told: Mapping[str, Sequence[Row]]) -> bytes:
    small = (
        "sci", "components", "coefficients", "waiting", "settlement", "forecast_errors",
        "lost_rows",
    )  # fmt: skip
    body = {
        "month": str(report.month),
        "per": str(report.per),
        "carbon_router": report.version,
        "command": command,
        "basis": "location-based, average; marginal and market-based beside it, never added",
        "factors": str(report.question.factors),
        "inputs": {"files": len(report.files), "sha256": report.digest},
        **{name: told[name] for name in small},
    }
    return (json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
