"""The file of hashed keys: read, checked as a whole, and looked at again when it changes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from router.config.document import parse
from router.config.identity import KeysFileSchema
from router.config.problems import Problem, from_validation
from router.errors import ConfigError
from router.identity.api_keys import HeldKey, KeyTable
from router.identity.principal import principal_of

# Beyond it nobody has looked through it, and to read it takes a second.
MAX_BYTES = 16 * 2**20


def read_keys(path: Path) -> KeysFileSchema:
    """What the file says. Raises ConfigError, naming what is wrong without repeating it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(str(path), [("", f"larger than {MAX_BYTES // 2**20} MiB")])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(str(path), [("", f"cannot be read: {why}")]) from None
    return checked_keys(parse(text, str(path)), str(path))


def checked_keys(data: Any, file: str) -> KeysFileSchema:
    """What the plain data of a ``file`` say. Raises ConfigError likewise."""
    try:
        schema = KeysFileSchema.model_validate(data)
    except ValidationError as error:
        raise ConfigError(file, from_validation(error, KeysFileSchema, data)) from None
    problems = list(_given_twice(schema))
    if problems:
        raise ConfigError(file, problems)
    return schema


def key_table(schema: KeysFileSchema) -> KeyTable:
    """The keys of a file by their ids."""
    return KeyTable(
        (
            key.id,
            HeldKey(
                bytes.fromhex(key.sha256),
                principal_of(one.name, one, f"key {key.id}"),
                -math.inf if key.not_before is None else key.not_before,
                math.inf if key.expires is None else key.expires,
            ),
        )
        for one in schema.principals
        for key in one.keys
    )


class WatchedFile:
    """Tells whether a file is not what it was when it was last looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether it changed since the last time; one that cannot be seen has not."""
        now = self._look()
        if now is None or now == self._seen:
            return False
        self._seen = now
        return True

    def _look(self) -> tuple[int, int, int] | None:
        try:
            # Through links: Kubernetes changes a Secret by changing one.
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _given_twice(schema: KeysFileSchema) -> Iterator[Problem]:
    names: set[str] = set()
    ids: set[str] = set()
    for index, one in enumerate(schema.principals):
        if one.name in names:
            text = f"{one.name!r} is given twice; list all its keys under one"
            yield f"principals[{index}].name", text
        names.add(one.name)
        for place, key in enumerate(one.keys):
            if key.id in ids:
                yield f"principals[{index}].keys[{place}].id", f"{key.id!r} is given twice"
            ids.add(key.id)
