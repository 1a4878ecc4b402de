"""``ledger`` of the file: where it is kept what every request emitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from router.config.fields import NameOrEmpty, PathText, Seconds, StoreUrl, Strict
from router.config.problems import Problem, unknown

_MIB: Final = 2**20


SlotName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class SettleSchema(Strict):
    """The gateway prices hours of the ledger anew by itself, as `carbon-router settle --config`."""

    every_s: Seconds = Field(
        default=3600.0,
        ge=300,
        le=86_400,
        description="between two rounds, each of which asks every live provider of `carbon` for "
        "the history of the last 30 days at most, s",
    )


class LedgerSchema(Strict):
    """A row for every attempt of every request, as Parquet."""

    dir: PathText = Field(
        description="local folder, relative to the configuration file: of the ledger, or of what "
        "waits to go to `url`"
    )
    url: StoreUrl | None = Field(
        default=None,
        description="where files go once they are whole, such as s3://bucket/ledger; left out: "
        "they stay in `dir`",
    )
    name: SlotName = Field(
        default="gateway",
        description="of this gateway's writers in `dir`; two that share a `dir` need two",
    )
    tenant: Literal["hash", "plain", "omit"] = Field(
        default="hash", description="x-tenant in it: a hash, as it is, or left out"
    )
    flush_s: Seconds = Field(
        default=5.0, le=300, description="rows are on the disk after so long at most, s"
    )
    seal_s: Seconds = Field(
        default=3600.0,
        ge=1,
        le=86_400,
        description="and in a file of the ledger after so long; when their hour ends in any case",
    )
    seal_rows: int = Field(
        default=200_000, ge=1, le=2_000_000, description="or when there are so many"
    )
    queue_rows: int = Field(
        default=50_000,
        ge=100,
        le=2_000_000,
        description="of a process that may wait for a disk; beyond it they are dropped, counted",
    )
    spool_max_mib: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="files that may wait for `url`, of one process, MiB; beyond it they are "
        "dropped, counted",
    )
    decision_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="of decisions, kept with all that they saw, chosen by chance; those that "
        "refuse, fail, or follow a failure are kept in any case",
    )
    gateway_w_per_core: float = Field(
        default=3.5,
        ge=0,
        le=1000,
        description="what a busy core of the gateway's own draws, W (Cloud Carbon Footprint: AWS, "
        "a vCPU at full use)",
    )
    gateway_region: NameOrEmpty = Field(
        default="", description="of `regions`, where the gateway runs; empty: not known"
    )
    settle: SettleSchema | None = Field(
        default=None,
        description="hours are priced anew in the background as grids' figures are revised; `{}` "
        "is enough; left out: by the command alone",
    )


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """``gateway_region``: "" where it is not known; ``spool_max_bytes``: of one process;
    ``settle_every_s``: None where the gateway does not settle."""

    dir: Path
    url: str | None
    name: str
    tenant: str
    flush_s: float
    seal_s: float
    seal_rows: int
    queue_rows: int
    spool_max_bytes: int
    decision_share: float
    gateway_w_per_core: float
    gateway_region: str
    settle_every_s: float | None = None

    @property
    def place(self) -> str:
        """Where the whole ledger is: its URL, or its folder."""
        return self.url or str(self.dir)


def ledger_settings(schema: LedgerSchema | None, folder: Path) -> LedgerSettings | None:
    """None where none is kept; ``folder``: of the configuration file."""
    if schema is None:
        return None
    values = schema.model_dump(exclude={"spool_max_mib", "settle"})
    values["dir"] = folder / schema.dir
    return LedgerSettings(
        **values,
        spool_max_bytes=schema.spool_max_mib * _MIB,
        settle_every_s=schema.settle.every_s if schema.settle else None,
    )


def check_ledger(schema: LedgerSchema | None, regions: set[str], folder: Path) -> list[Problem]:
    """The folder can be made where it is to be, and the gateway's region is one."""
    if schema is None:
        return []
    problems: list[Problem] = []
    path = folder / schema.dir
    if path.exists() and not path.is_dir():
        problems.append(("ledger.dir", f"{path}: not a folder"))
    elif not path.exists() and not path.parent.is_dir():
        problems.append(("ledger.dir", f"{path.parent}: no such folder; make it"))
    if schema.gateway_region and schema.gateway_region not in regions:
        text = unknown("region", schema.gateway_region, sorted(regions))
        problems.append(("ledger.gateway_region", text))
    return problems
