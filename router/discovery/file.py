"""Endpoints in a file that others write: looked at now and then, told when it says another thing.

What cannot be read, or read in part, changes nothing: a file that is being written is read once it
is whole. It is replaced by a rename, or by a symbolic link to another folder, as Kubernetes does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from router.config import document
from router.config.problems import from_validation
from router.contract import FindingsListener
from router.errors import ConfigError
from router.model import FoundEndpoint

MAX_BYTES: Final = 1024 * 1024
_SHOWN: Final = 5

_Text = Annotated[str, Field(max_length=317)]


class ListedEndpoint(BaseModel):
    """One of the file, as llm-d's file discovery has it, and two liberties: the port may be part of
    the address, and a region may be said without a label."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: _Text = Field(min_length=1)
    address: _Text = Field(min_length=1)
    port: _Text | int = ""
    namespace: _Text = ""
    region: _Text = ""
    labels: dict[_Text, _Text] = Field(default_factory=dict, max_length=64)


class EndpointList(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    endpoints: list[ListedEndpoint]


class FileFinder:
    """A `contract.EndpointFinder` of one file."""

    def __init__(self, file: Path, look_s: float) -> None:
        """``look_s``: between two looks."""
        self._file = file
        self._look_s = look_s

    async def run(self, listener: FindingsListener) -> None:
        """See `contract.EndpointFinder`."""
        seen: tuple[int, ...] | None = None
        while True:
            try:
                # A file system that hangs holds up nothing else.
                signature, found = await asyncio.to_thread(self._look, seen)
            except ConfigError as error:
                # It may be complete the next time, though it looks the same.
                seen = None
                listener.failed(_said(error))
            else:
                if found is not None:
                    seen = signature
                    listener.found(found)
            await asyncio.sleep(self._look_s)

    def _look(
        self, seen: tuple[int, ...] | None
    ) -> tuple[tuple[int, ...], Sequence[FoundEndpoint] | None]:
        """The file's signature, and what it says unless that is ``seen``. Raises ConfigError."""
        try:
            told = self._file.stat()
            signature = (told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size)
            if signature == seen:
                return signature, None
            with self._file.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(str(self._file), [("", f"cannot be read: {reason}")]) from error
        return signature, parse_endpoints(content, str(self._file))


def parse_endpoints(content: bytes, file: str) -> list[FoundEndpoint]:
    """What a file says, in its order. Raises ConfigError where any of it is not as it should be."""
    if len(content) > MAX_BYTES:
        raise ConfigError(file, [("", f"larger than {MAX_BYTES // 1024**2} MiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(file, [("", f"not UTF-8 at byte {error.start}")]) from error
    data = document.parse(text, file)
    if isinstance(data, list):
        data = {"endpoints": data}
    if not isinstance(data, dict):
        # Nothing is what a file says that was emptied to be written anew; no endpoint is `[]`.
        raise ConfigError(
            file, [("", "holds no list of endpoints; write `endpoints: []` for none")]
        )
    try:
        listed = TypeAdapter(EndpointList).validate_python(data)
    except ValidationError as error:
        raise ConfigError(file, from_validation(error, EndpointList, data)) from error
    return [_found(one) for one in listed.endpoints]


def _found(one: ListedEndpoint) -> FoundEndpoint:
    address = one.address
    if one.port != "":
        bare = ":" in address and not address.startswith("[")
        address = f"{f'[{address}]' if bare else address}:{one.port}"
    name = f"{one.namespace}/{one.name}" if one.namespace else one.name
    return FoundEndpoint(name, address, one.region, dict(one.labels))


def _said(error: ConfigError) -> str:
    told = [f"{key}: {text}" if key else text for key, text in error.problems[:_SHOWN]]
    more = len(error.problems) - len(told)
    return f"{error.file}: " + "; ".join(told) + (f"; and {more} more" if more else "")
