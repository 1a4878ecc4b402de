"""A folder of inputs that nobody measured, and the real one where it is."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from router.lab.replicate import inputs

ROOT = Path(__file__).resolve().parents[3]
ZONES = ("AU-NSW", "BR-CS", "DE", "FR", "JP-TK", "US-CAL-CISO", "US-MIDA-PJM")
GCP = {
    "australia-1": "AUS-NSW", "brazil-1": "BR-CS", "germany-1": "DE", "germany-2": "DE",
    "japan-1": "JP-TK", "nowhere-1": "XX",
}  # fmt: skip
AWS = ("ap-southeast-2", "eu-central-1", "eu-west-3", "us-east-1", "us-east-2", "us-west-1")
START = np.datetime64("2022-08-12T00:00")
HOURS = 80


def intensities() -> np.ndarray:
    """(HOURS, zones): each zone has its level, its day and its noise."""
    rng = np.random.default_rng(5)
    hour = np.arange(HOURS)[:, None]
    level = np.linspace(90.0, 500.0, len(ZONES))
    daily = 1.0 + 0.3 * np.sin(2.0 * np.pi * (hour + 3.0 * np.arange(len(ZONES))) / 24.0)
    return (level * daily * rng.uniform(0.9, 1.1, (HOURS, len(ZONES)))).round(2)


def stamps() -> list[str]:
    return [f"{START + np.timedelta64(hour, 'h')}Z" for hour in range(HOURS)]


def write(folder: Path) -> inputs.Literature:
    """All files of `inputs.FILES` in ``folder``."""
    rtt = [[abs(i - j) * 40.0 for j in range(len(GCP))] for i in range(len(GCP))]
    aws = [[5.0 + abs(i - j) * 60.0 for j in range(len(AWS))] for i in range(len(AWS))]
    demand = [[100 + 10 * hour % 70 + 20 * place for place in range(6)] for hour in range(HOURS)]
    files = {
        inputs.INTENSITIES.removesuffix(".gz"): _csv("datetime", ZONES, stamps(), intensities()),
        inputs.GCP_RTT: _csv("from", GCP, GCP, rtt),
        inputs.GCP_ZONES: json.dumps(GCP),
        inputs.AWS_RTT: _csv("from", AWS, AWS, aws),
        inputs.WIKI_DEMAND: _csv("datetime_utc", AWS, stamps(), demand),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    plain = folder / inputs.INTENSITIES.removesuffix(".gz")
    (folder / inputs.INTENSITIES).write_bytes(gzipped(plain.read_bytes()))
    return inputs.Literature(folder)


def the_real_literature() -> inputs.Literature:
    """The data of docs/evidence.md, or a loud skip."""
    named = os.environ.get(inputs.VARIABLE)
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"LITERATURE NOT RE-RUN: no {folder}; see docs/evidence.md")
    return inputs.Literature(folder)


def _csv(first, columns, names, rows) -> str:
    lines = [",".join([first, *columns])]
    lines += [
        ",".join([name, *(f"{value:g}" for value in row)])
        for name, row in zip(names, rows, strict=True)
    ]
    return "\n".join(lines) + "\n"


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
