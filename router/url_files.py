"""Files by URL: those of this machine, or of a store of objects, by one library, pyarrow's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import fs

from router.errors import DataError

# Of one call: a store that is silent holds whoever called it for some 3 s each time, and the end of
# the process with it. Arrow's own way, of 30 times, takes a minute.
_TRIES: Final = 3


def file_system(where: str | Path) -> tuple[fs.FileSystem, str]:
    """Of a folder, or a URL that pyarrow knows (``s3://``, ``gs://``, ``abfs://``, ``file://``),
    and the path there. Raises DataError."""
    text = str(where)
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).absolute())
    try:
        system, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{text}: no place for files: {error}") from None
    return _bounded(system), path.rstrip("/")


def _bounded(system: fs.FileSystem) -> fs.FileSystem:
    """``system``, and for S3 one that tries `_TRIES` times, which no URL can say."""
    if system.type_name != "s3":
        return system
    # As it is pickled: keys of the URL are among them, those of the environment are looked up anew.
    _, (options,) = system.__reduce__()
    return fs.S3FileSystem(
        **{**options, "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES)}
    )
