"""Where keys are kept: a file, or a store (`router.operator.key_store`). Either is changed as a
whole, and two commands at once lose nothing of each other's."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from pydantic import ValidationError

from router.config.fields import format_time
from router.config.identity import ApiKeySchema, KeyedPrincipalSchema, KeysFileSchema
from router.config.problems import from_validation
from router.errors import ConfigError
from router.identity.keys_file import MAX_BYTES, read_keys
from router.replaced_file import ReplacedFile

_T = TypeVar("_T")


class KeysPlace(Protocol):
    """Where keys are kept. ``name``: in messages; ``had_any``: whether there was something before
    the last change."""

    name: str
    had_any: bool

    def read(self) -> KeysFileSchema:
        """What is there. Raises ConfigError."""
        ...

    def change(self, edit: Callable[[dict[str, Any]], _T]) -> _T:
        """What ``edit`` makes of what is there, as plain data, is put in its place; its answer.
        Raises ConfigError, as ``edit`` may: then nothing is changed."""
        ...


class KeysInFile:
    """A file of hashed keys."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.name = str(file)
        self.had_any = True

    def read(self) -> KeysFileSchema:
        """See `KeysPlace`."""
        return read_keys(self._file)

    def change(self, edit: Callable[[dict[str, Any]], _T]) -> _T:
        """See `KeysPlace`; a file that is not there is made."""
        with Path(f"{self._file}.lock").open("w") as lock:
            # Two commands at once must not lose one's key.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.had_any = self._file.exists()
            held = plain(read_keys(self._file)) if self.had_any else nothing()
            answer = edit(held)
            text = as_yaml(checked(held, self.name))
            # A gateway reads the file at any moment; who may, may read the next one.
            mode = self._file.stat().st_mode & 0o777 if self.had_any else 0o600
            replaced = ReplacedFile(self._file, MAX_BYTES)
            replaced.clean()
            replaced.write(text.encode(), mode)
        return answer


def checked(data: dict[str, Any], where: str) -> dict[str, Any]:
    """``data`` itself. Raises ConfigError where no gateway would take it."""
    try:
        KeysFileSchema.model_validate(data)
    except ValidationError as error:
        raise ConfigError(where, from_validation(error, KeysFileSchema, data)) from None
    return data


def as_yaml(data: Any) -> str:
    """``data`` as a file of keys has it."""
    # By JSON, lest the same list met twice becomes an alias.
    copied = json.loads(json.dumps(data))
    return yaml.safe_dump(copied, sort_keys=False, default_flow_style=None, width=100)


def counted(schema: KeysFileSchema) -> str:
    """How many keys there are, in words."""
    keys = sum(len(one.keys) for one in schema.principals)
    return f"{keys} keys of {len(schema.principals)} principals"


def nothing() -> dict[str, Any]:
    """What a place without keys says."""
    return {"version": 1, "principals": []}


def plain(schema: KeysFileSchema) -> dict[str, Any]:
    """What ``schema`` was read from, to be changed."""
    principals = [
        {**_said(one), "keys": [_said_of_key(key) for key in one.keys]} for one in schema.principals
    ]
    return {"version": 1, "principals": principals}


def _said(one: KeyedPrincipalSchema) -> dict[str, Any]:
    return {"name": one.name, **one.model_dump(exclude={"keys", "name"}, exclude_unset=True)}


def _said_of_key(key: ApiKeySchema) -> dict[str, Any]:
    said = key.model_dump(exclude_none=True)
    return {
        name: format_time(value) if isinstance(value, float) else value
        for name, value in said.items()
    }
