"""The prices of a ledger: ``prices/000001.parquet`` and on, one file a settlement, there or behind
a URL.

Files are added, never changed: which price a report had can be found again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from router.errors import DataError
from router.ledger.arrow_schema import arrow_schema
from router.ledger.month import US_PER_HOUR, US_PER_S, hour_text
from router.ledger.sealed_files import SUFFIX
from router.ledger.settlement import PRICE_COLUMNS, MeasuredHour, Price, PriceKey
from router.model import Basis, Factors, Kind
from router.url_files import file_system

FOLDER: Final = "prices"
_ASIDE: Final = ".aside"
# No file takes as long to be written.
_ASIDE_S: Final = 3600.0
_NUMBER: Final = re.compile(r"\d+")
# Of every price that there can be: a time in microseconds goes no further.
_LAST_HOUR: Final = 2**31
_VERSION_KEY: Final = b"carbon_router.prices"
_VERSION_TEXT: Final = b"1"


def price_files(ledger: str | Path) -> list[str]:
    """Names in the ledger, in the order in which they were added. Raises DataError."""
    system, root = file_system(ledger)
    selector = fs.FileSelector(f"{root}/{FOLDER}", allow_not_found=True)
    try:
        infos = system.get_file_info(selector)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{ledger}: cannot be read: {error}") from None
    names = (info.base_name for info in infos if info.type is fs.FileType.File)
    return sorted(
        f"{FOLDER}/{name}" for name in names if name.endswith(SUFFIX) and name[0].isdigit()
    )


def read_prices(ledger: str | Path) -> dict[PriceKey, Price]:
    """The newest price of each hour.

    Raises DataError for a file that is broken or no ledger's, and for revisions of an hour that
    are there twice, or not one after the other.
    """
    system, root = file_system(ledger)
    newest: dict[PriceKey, Price] = {}
    for name in price_files(ledger):
        for price in read_price_file(system, f"{root}/{name}"):
            key = price.measured.key
            expected = newest[key].revision + 1 if key in newest else 1
            if price.revision != expected:
                raise DataError(
                    f"{name}: revision {price.revision} of {key.grid_zone}, {hour_text(key.hour)}, "
                    f"{key.basis}/{key.factors}, where {expected} would come: two settlements "
                    "wrote at one time, or a file is missing; keep one of the files"
                )
            newest[key] = price
    return newest


def add_prices(ledger: str | Path, prices: Sequence[Price]) -> str | None:
    """Write a file more; its name in the ledger, None where there is nothing to write.

    Raises DataError where another settlement was faster, and OSError. Then nothing was written.
    """
    if not prices:
        return None
    system, root = file_system(ledger)
    sink = io.BytesIO()
    pq.write_table(_table(prices), sink, compression="zstd", store_schema=True)
    body, number = sink.getvalue(), _next_number(ledger)
    if isinstance(system, fs.LocalFileSystem):
        return _add_file(Path(root), f"{FOLDER}/{number:06d}{SUFFIX}", body)
    # A store takes the last of two files of one name: these have their content's. That they are of
    # one revision is found when they are read.
    name = f"{FOLDER}/{number:06d}-{hashlib.sha256(body).hexdigest()[:12]}{SUFFIX}"
    system.create_dir(f"{root}/{FOLDER}", recursive=True)
    with system.open_output_stream(f"{root}/{name}") as file:
        file.write(body)
    return name


def _add_file(root: Path, name: str, body: bytes) -> str:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}{_ASIDE}")
    try:
        with aside.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        _remove_left_over(path.parent, aside.stat().st_mtime)
        # A name that is taken is refused: what is there stays.
        os.link(aside, path)
    except FileExistsError:
        raise DataError(f"{path} came from another settlement meanwhile: settle again") from None
    finally:
        aside.unlink(missing_ok=True)
    return name


def _remove_left_over(folder: Path, now: float) -> None:
    """What settlements began that were killed; ``now``: by the clock of the folder's disk."""
    for path in folder.glob(f".*{_ASIDE}"):
        with contextlib.suppress(FileNotFoundError):
            if now - path.stat().st_mtime > _ASIDE_S:
                path.unlink()


def _next_number(ledger: str | Path) -> int:
    names = price_files(ledger)
    return int(_NUMBER.findall(names[-1])[0]) + 1 if names else 1


def _table(prices: Sequence[Price]) -> pa.Table:
    schema = arrow_schema(PRICE_COLUMNS)
    rows: list[tuple[Any, ...]] = [
        (
            key.grid_zone,
            key.hour * US_PER_HOUR,
            str(key.basis),
            str(key.factors),
            one.g_per_kwh,
            one.low_g_per_kwh,
            one.high_g_per_kwh,
            str(one.kind),
            one.source,
            price.revision,
            round(one.observed_at * US_PER_S),
            round(price.settled_at * US_PER_S),
        )
        for price in prices
        for one in (price.measured,)
        for key in (one.key,)
    ]
    arrays = []
    for field, values in zip(schema, zip(*rows, strict=True), strict=True):
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema).replace_schema_metadata(
        {_VERSION_KEY: _VERSION_TEXT}
    )


def read_price_file(
    system: fs.FileSystem, path: str, first: int = 0, last: int = _LAST_HOUR
) -> list[Price]:
    """Those of one file, in its order, of hours since 1970 from ``first`` through ``last``.

    Raises DataError for one that is broken or none of ours.
    """
    try:
        with system.open_input_file(path) as file:
            table = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from None
    metadata = table.schema.metadata or {}
    if metadata.get(_VERSION_KEY) != _VERSION_TEXT or table.column_names != [
        column.name for column in PRICE_COLUMNS
    ]:
        raise DataError(f"{path}: a Parquet file, but not of this program's prices")
    hours = table.column("hour").cast(pa.int64())
    start, end = first * US_PER_HOUR, last * US_PER_HOUR
    table = table.filter(pc.and_(pc.greater_equal(hours, start), pc.less_equal(hours, end)))
    times = {name: table.column(name).cast(pa.int64()) for name in _TIMES}
    columns = [times.get(name, table.column(name)).to_pylist() for name in table.column_names]
    try:
        return [_price(*row) for row in zip(*columns, strict=True)]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


_TIMES: Final = [column.name for column in PRICE_COLUMNS if column.type == "time"]


def _price(
    zone: str, hour_us: int, basis: str, factors: str, g: float, low: float, high: float,
    kind: str, source: str, revision: int, observed_us: int, settled_us: int,
) -> Price:  # fmt: skip
    if hour_us % US_PER_HOUR:
        raise ValueError("a price that is not of a whole hour")
    key = PriceKey(zone, hour_us // US_PER_HOUR, Basis(basis), Factors(factors))
    measured = MeasuredHour(key, g, low, high, Kind(kind), source, observed_us / US_PER_S)
    return Price(measured, revision, settled_us / US_PER_S)
