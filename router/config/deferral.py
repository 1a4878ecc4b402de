"""``deferral`` of the file: where work waits that need not be answered at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from router.config.fields import PathText, Seconds, StoreUrl, Strict
from router.config.problems import Problem
from router.units import DAY_S

_MIB = 2**20


class DeferralSchema(Strict):
    """Batches, and the files that they are made of."""

    dir: PathText = Field(
        description="folder, relative to the configuration file: files of callers, and the queue "
        "where that is a file; gateways on one machine may share it"
    )
    queue: Literal["sqlite", "redis"] = Field(
        default="sqlite",
        description="where it is kept that work waits: a file in `dir`, of the gateways of one "
        "machine, or the server of `state.redis`, of any number of gateways whose `dir` is one "
        "shared folder",
    )
    files: StoreUrl | None = Field(
        default=None,
        description="where files of callers, and those of answers, are, such as s3://bucket/files, "
        "with credentials of the environment; `dir` has the rest. Left out: in `dir`",
    )
    max_concurrent: int = Field(
        default=64, ge=1, le=100_000, description="deferred requests at once in a process"
    )
    share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="of an endpoint's `max_in_flight`: where more than that is under way, of any "
        "kind, no deferred request begins",
    )
    max_file_mib: int = Field(
        default=200, ge=1, le=100_000, description="largest file that callers may upload, MiB"
    )
    max_lines: int = Field(
        default=50_000, ge=1, le=10_000_000, description="most requests of a batch"
    )
    tenant_max_mib: int = Field(
        default=4096,
        ge=1,
        le=100_000_000,
        description="files of one tenant, answers among them, MiB",
    )
    tenant_max_requests: int = Field(
        default=1_000_000, ge=1, le=1_000_000_000, description="that one tenant has waiting"
    )
    tenant_max_batches: int = Field(
        default=100_000,
        ge=1,
        le=100_000_000,
        description="batches, and responses in the background, of one tenant that are kept, ended "
        "ones among them",
    )
    flex_wait_s: float = Field(
        default=240.0,
        ge=0,
        le=3600,
        description="that a request of `service_tier: flex`, or with a deadline, is held at most "
        "before it begins, s; SDKs wait 600 s for an answer. 0: none is held",
    )
    flex_max_held: int = Field(
        default=256, ge=1, le=100_000, description="held so in a process; others begin at once"
    )
    max_tries: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="of a request that servers fail; one that finds no place waits, uncounted",
    )
    lease_s: Seconds = Field(
        default=15.0,
        ge=1,
        le=3600,
        description="a process that says nothing for so long has its requests taken over, s; one "
        "that was killed, at once",
    )
    keep_days: float = Field(
        default=30.0,
        gt=0,
        le=3650,
        description="files and batches are deleted so long after they came, or ended, days",
    )


@dataclass(frozen=True, slots=True)
class DeferralSettings:
    """As `DeferralSchema`, with bytes and seconds in the places of MiB and days; ``is_shared``: the
    queue is in Redis; ``files``: a URL, None where they are in ``dir``."""

    dir: Path
    max_concurrent: int
    share: float
    max_file_bytes: int
    max_lines: int
    tenant_max_bytes: int
    tenant_max_requests: int
    max_tries: int
    lease_s: float
    keep_s: float
    tenant_max_batches: int = 100_000
    is_shared: bool = False
    flex_wait_s: float = 240.0
    flex_max_held: int = 256
    files: str | None = None


def deferral_settings(schema: DeferralSchema | None, folder: Path) -> DeferralSettings | None:
    """None where nothing is deferred; ``folder``: of the configuration file."""
    if schema is None:
        return None
    return DeferralSettings(
        dir=folder / schema.dir,
        max_concurrent=schema.max_concurrent,
        share=schema.share,
        max_file_bytes=schema.max_file_mib * _MIB,
        max_lines=schema.max_lines,
        tenant_max_bytes=schema.tenant_max_mib * _MIB,
        tenant_max_requests=schema.tenant_max_requests,
        max_tries=schema.max_tries,
        lease_s=schema.lease_s,
        keep_s=schema.keep_days * DAY_S,
        tenant_max_batches=schema.tenant_max_batches,
        flex_wait_s=schema.flex_wait_s,
        flex_max_held=schema.flex_max_held,
        is_shared=schema.queue == "redis",
        files=schema.files,
    )


def check_deferral(
    schema: DeferralSchema | None, serves_http: bool, has_redis: bool, folder: Path
) -> list[Problem]:
    """The folder can be made where it is to be, and somebody can put work into it."""
    if schema is None:
        return []
    problems: list[Problem] = []
    path = folder / schema.dir
    if path.exists() and not path.is_dir():
        problems.append(("deferral.dir", f"{path}: not a folder"))
    elif not path.exists() and not path.parent.is_dir():
        problems.append(("deferral.dir", f"{path.parent}: no such folder; make it"))
    if not serves_http:
        problems.append(("deferral", "batches come over HTTP, so say where: server.http"))
    if schema.queue == "redis" and not has_redis:
        problems.append(("deferral.queue", "redis: say which, in state.redis"))
    return problems
