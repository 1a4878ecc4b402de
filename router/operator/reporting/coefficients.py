"""Figures that a report takes from elsewhere, each with unit and source: PUE, embodied, GPU share.

Files of the operator's own are CSV with a header; what is wrong in one names its row.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.config.loading import shipped_profiles
from router.errors import ConfigError
from router.ledger.month import US_PER_S, Month
from router.model import Profile, TaskProfile
from router.units import MS_PER_S

_HOURS_OF_YEAR: Final = 8766.0
_GROUP: Final = re.compile(r".*@(\d+)x([a-z0-9-]+)", re.ASCII)


class Coefficient(NamedTuple):
    """One row of the coefficient table. ``how``: sourced, measured or modelled."""

    name: str
    value: float
    unit: str
    source: str
    how: str


class Embodied(NamedTuple):
    """ISO/IEC 21031: M = TE * TiR / EL, of one GPU with its part of the server."""

    hardware: str
    te_g: float
    lifetime_h: float
    source: str

    @property
    def g_per_gpu_hour(self) -> float:
        """For each hour that it is reserved."""
        return self.te_g / self.lifetime_h


class Pue(NamedTuple):
    """Of a region in one month."""

    region: str
    pue: float
    source: str


class MarketFactor(NamedTuple):
    """What contracts say of electricity. ``hour``: since 1970, None for every one; ``kwh``: how
    much a certificate is for, None of a residual factor, which is for whatever no certificate
    covers."""

    grid_zone: str
    hour: int | None
    kwh: float | None
    g_per_kwh: float
    source: str


def embodied_table(path: Path | None) -> dict[str, Embodied]:
    """Of a file, or of the one that ships, by hardware. Raises ConfigError."""
    if path is None:
        file = resources.files("router") / "data" / "embodied.csv"
        rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
        return dict(_embodied("embodied.csv", enumerate(rows, 2)))
    columns = ("hardware", "server_kg", "gpus_per_server", "gpu_kg", "lifetime_years", "source")
    return dict(_embodied(str(path), _rows(path, columns)))


def _embodied(file: str, rows: Iterable[tuple[int, Mapping[str, str]]]) -> Iterator[
    tuple[str, Embodied]
]:  # fmt: skip
    for at, row in rows:
        server, gpus, gpu, years = (
            _number(file, at, row, name)
            for name in ("server_kg", "gpus_per_server", "gpu_kg", "lifetime_years")
        )
        if not (gpus >= 1.0 and years > 0.0):
            raise ConfigError(file, [(f"row {at}", "at least one GPU, and a lifetime over 0")])
        te_g = 1000.0 * (server / gpus + gpu)
        name = row["hardware"].strip().lower()
        yield name, Embodied(name, te_g, years * _HOURS_OF_YEAR, row["source"])


def hardware_of(profile: str) -> tuple[int, str] | None:
    """GPUs of a profile such as llama-3.1-70b@4xh100, and their name; None of another name."""
    found = _GROUP.fullmatch(profile.lower())
    return (int(found[1]), found[2]) if found else None


def gpu_share(profile: Profile) -> float:
    """Of a busy replica's IT power, what its GPUs draw: at the load that it is meant to run at."""
    if isinstance(profile, TaskProfile):
        return 1.0 / (1.0 + profile.host_fraction)
    batch = float(profile.target_batch)
    gpu_w = profile.base_w + profile.w_per_token_s * batch * MS_PER_S / profile.tpot_ms(batch)
    return gpu_w / (gpu_w * (1.0 + profile.host_fraction) + profile.host_awake_w)


def gpu_shares() -> dict[str, float]:
    """`gpu_share` of the profiles that ship, by name."""
    return {name: gpu_share(profile) for name, profile in shipped_profiles().items()}


def read_pue(path: Path, month: Month) -> list[Pue]:
    """The rows of ``month`` of a file ``region,month,pue,source``. Raises ConfigError."""
    found: dict[str, Pue] = {}
    for at, row in _rows(path, ("region", "month", "pue", "source")):
        if row["month"].strip() != str(month):
            continue
        region, pue = row["region"].strip(), _number(str(path), at, row, "pue")
        if region in found:
            raise ConfigError(str(path), [(f"row {at}", f"{region} has two figures of {month}")])
        if not 1.0 <= pue <= 5.0:
            raise ConfigError(str(path), [(f"row {at}", f"{pue:g} is no PUE: 1 or more, to 5")])
        found[region] = Pue(region, pue, row["source"])
    if not found:
        raise ConfigError(str(path), [("", f"no row of {month}")])
    return list(found.values())


def read_market(path: Path) -> list[MarketFactor]:
    """A file ``grid_zone,hour,kwh,g_per_kwh,source``: certificates with ``kwh``, residual factors
    without; ``hour`` empty: every one. Raises ConfigError."""
    found = []
    for at, row in _rows(path, ("grid_zone", "hour", "kwh", "g_per_kwh", "source")):
        hour = _hour(str(path), at, row["hour"]) if row["hour"].strip() else None
        kwh = _number(str(path), at, row, "kwh") if row["kwh"].strip() else None
        if kwh is not None and hour is None:
            fix = "a certificate is of one hour: give it, as 2026-11-30T07:00Z"
            raise ConfigError(str(path), [(f"row {at}", fix)])
        g_per_kwh = _number(str(path), at, row, "g_per_kwh")
        found.append(MarketFactor(row["grid_zone"].strip(), hour, kwh, g_per_kwh, row["source"]))
    return found


def market_prices(
    factors: Sequence[MarketFactor], used: Mapping[tuple[str, int], float]
) -> dict[tuple[str, int], float]:
    """g/kWh by (grid zone, hour) of what was ``used``, kWh: certificates of the hour first, the
    cleanest first, then the residual factor. Hours without one for the rest are left out.

    Raises ConfigError for two residual factors of one hour.
    """
    certificates: dict[tuple[str, int], list[tuple[float, float]]] = {}
    residual: dict[tuple[str, int | None], float] = {}
    for one in factors:
        if one.kwh is not None and one.hour is not None:
            place = certificates.setdefault((one.grid_zone, one.hour), [])
            place.append((one.g_per_kwh, one.kwh))
        elif residual.setdefault((one.grid_zone, one.hour), one.g_per_kwh) != one.g_per_kwh:
            raise ConfigError("--market", [(one.grid_zone, "two residual factors of one hour")])
    found = {}
    for (zone, hour), kwh in sorted(used.items()):
        left, grams = kwh, 0.0
        for g_per_kwh, most in sorted(certificates.get((zone, hour), [])):
            taken = min(left, most)
            grams += taken * g_per_kwh
            left -= taken
        rest = residual.get((zone, hour), residual.get((zone, None), math.nan))
        grams += left * rest if left > 0.0 else 0.0
        if kwh > 0.0 and math.isfinite(grams):
            found[zone, hour] = grams / kwh
    return found


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                fix = f"no column {', '.join(missing)}; the header is {','.join(columns)}"
                raise ConfigError(str(path), [("row 1", fix)])
            for row in reader:
                if None in row or None in row.values():
                    raise ConfigError(str(path), [(f"row {reader.line_num}", "cells and header")])
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(str(path), [("", f"cannot be read: {error}")]) from None


def _number(file: str, at: int, row: Mapping[str, Any], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0.0):
        text = f"{name}: {str(row[name])[:40]!r} is no number, 0 or more"
        raise ConfigError(file, [(f"row {at}", text)])
    return value


def _hour(file: str, at: int, text: str) -> int:
    from router.config import parse_time

    try:
        unix_s = parse_time(text.strip())
    except ValueError as error:
        raise ConfigError(file, [(f"row {at}", str(error))]) from None
    if unix_s * US_PER_S % (3600 * US_PER_S):
        raise ConfigError(file, [(f"row {at}", f"{text} is not the start of an hour, UTC")])
    return int(unix_s // 3600)
