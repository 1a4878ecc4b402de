"""A ledger read as a whole: as an Arrow dataset, or as a relation of DuckDB.

Rows lie in files of the hour, UTC, that they ended in; ``date`` and ``hour`` are columns too, and
what is asked for by them reads only those files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from router.errors import DataError
from router.ledger.columns import CellType
from router.ledger.tables import LedgerTable
from router.url_files import file_system

_SQL_TYPES: Final = {
    CellType.NAME: "varchar",
    CellType.TEXT: "varchar",
    CellType.TIME: "timestamptz",
    CellType.COUNT: "bigint",
    CellType.SMALL_COUNT: "integer",
    CellType.SINGLE: "float",
    CellType.DOUBLE: "double",
}
_PARTITIONS: Final = pa.schema([("date", pa.date32()), ("hour", pa.int32())])


def dataset(where: str | Path, table: LedgerTable) -> ds.Dataset:
    """Every sealed row of ``table``; names are plain texts. Without a file it is empty.

    Raises DataError where the place cannot be read.
    """
    system, root = file_system(where)
    folder = f"{root}/{table.name}"
    schema = pa.unify_schemas([_plain(table.schema), _PARTITIONS])
    try:
        info = system.get_file_info(folder)
        if info.type is not fs.FileType.Directory:
            return ds.dataset(schema.empty_table())
        return ds.dataset(
            folder,
            schema=schema,
            format="parquet",
            filesystem=system,
            partitioning=ds.partitioning(_PARTITIONS, flavor="hive"),
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{where}: a ledger that cannot be read: {error}") from None


def relation(
    connection: duckdb.DuckDBPyConnection, where: str | Path, table: LedgerTable
) -> duckdb.DuckDBPyRelation:
    """Every sealed row of ``table``, as `dataset` has it: DuckDB reads files of a folder itself,
    those behind a URL through Arrow.

    Raises DataError where the place cannot be read.
    """
    system, root = file_system(where)
    folder = Path(root) / table.name
    if not isinstance(system, fs.LocalFileSystem):
        return connection.from_arrow(dataset(where, table))
    if not any(path.name[0] not in "._" for path in folder.glob("date=*/hour=*/*.parquet")):
        return connection.from_arrow(dataset(where, table).to_table())
    # Folders have names of any kind, and what is hidden is not of the ledger, as in `dataset`.
    named = re.sub(r"[*?\[]", r"[\g<0>]", str(folder))
    files = f"{named}/date=*/hour=*/[!._]*.parquet".replace("'", "''")
    found = connection.sql(
        f"from read_parquet('{files}', union_by_name=true, hive_partitioning=true, "
        "hive_types={'date': DATE, 'hour': INTEGER})"
    )
    # Where all files are of a version of the format before this one.
    lacking = [column for column in table.columns if column.name not in found.columns]
    nulls = ", ".join(f"null::{_SQL_TYPES[one.type]} as {one.name}" for one in lacking)
    return found.project(f"*, {nulls}") if lacking else found


def _plain(schema: pa.Schema) -> pa.Schema:
    fields: list[Any] = []
    for field in schema:
        is_name = pa.types.is_dictionary(field.type)
        fields.append(field.with_type(field.type.value_type) if is_name else field)
    return pa.schema(fields)
