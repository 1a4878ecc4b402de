"""What `key` does: makes keys, lists and revokes them in a file of hashed keys."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from router.config.fields import format_time
from router.config.identity import ApiKeySchema, KeyedPrincipalSchema, KeysFileSchema
from router.config.problems import from_validation
from router.errors import ConfigError
from router.identity.api_keys import new_key
from router.identity.keys_file import read_keys


class MadeKey(NamedTuple):
    """``text``: the key, which is nowhere else. ``entry``: what a file holds of it, YAML."""

    text: str
    entry: str


class ListedKey(NamedTuple):
    """One key of a file, and what its principal may. ``state``: valid, not yet, or expired; times
    as text. "" is none: no time, no limit."""

    principal: str
    tenant: str
    roles: str
    models: str
    residency: str
    origins: str
    limits: str
    weight: str
    key_id: str
    state: str
    not_before: str
    expires: str


def make_key(
    principal: dict[str, Any], not_before: float | None, expires: float | None, file: Path | None
) -> MadeKey:
    """A new key of ``principal`` (keys as in a file), put into ``file`` where there is one.

    A principal that the file has already gets one more key and stays as it is otherwise. Times:
    unix s. Raises ConfigError.
    """
    made = new_key(secrets.token_bytes)
    key = {"id": made.key_id, "sha256": made.sha256}
    for name, value in (("not_before", not_before), ("expires", expires)):
        if value is not None:
            key[name] = format_time(value)
    entry = _checked({"version": 1, "principals": [{**principal, "keys": [key]}]}, "the key")
    if file is not None:
        with _changing(file) as held:
            _add(held, entry["principals"][0], file)
    return MadeKey(made.text, _yaml(entry["principals"]))


def listed_keys(file: Path, now: float) -> list[ListedKey]:
    """Every key of a file, and what is true of it at ``now``, unix s. Raises ConfigError."""
    return [
        ListedKey(
            one.name,
            one.tenant,
            " ".join(one.roles),
            " ".join(one.models),
            " ".join(one.residency),
            " ".join(one.origins),
            _limits(one),
            f"{one.weight:g}",
            key.id,
            _state(key, now),
            "" if key.not_before is None else format_time(key.not_before),
            "" if key.expires is None else format_time(key.expires),
        )
        for one in read_keys(file).principals
        for key in one.keys
    ]


def revoke_key(file: Path, key_id: str) -> str:
    """Take a key out of a file; whose it was. Raises ConfigError where it is not there."""
    with _changing(file) as held:
        for one in held["principals"]:
            left = [key for key in one["keys"] if key["id"] != key_id]
            if len(left) < len(one["keys"]):
                one["keys"] = left
                return str(one["name"])
        # Not repeated: it may be a whole key.
        raise ConfigError(str(file), [("", "no key has this id; `key ls` shows those there are")])


def _limits(one: KeyedPrincipalSchema) -> str:
    given = one.limits.model_dump(exclude_none=True)
    return ", ".join(f"{value:g} {key}" for key, value in given.items())


def _state(key: ApiKeySchema, now: float) -> str:
    if key.expires is not None and now >= key.expires:
        return "expired"
    return "not yet" if key.not_before is not None and now < key.not_before else "valid"


def _add(held: dict[str, Any], principal: dict[str, Any], file: Path) -> None:
    for one in held["principals"]:
        if one["name"] == principal["name"]:
            differs = [
                name
                for name, value in principal.items()
                if name not in ("name", "keys") and one.get(name) != value
            ]
            if differs:
                text = (
                    f"{one['name']!r} is there with another {', '.join(differs)}: leave these out "
                    "to add a key, or change the file"
                )
                raise ConfigError(str(file), [("principals", text)])
            one["keys"] = [*one["keys"], *principal["keys"]]
            return
    held["principals"].append(principal)


@contextmanager
def _changing(file: Path) -> Iterator[dict[str, Any]]:
    """What a file says, to be changed inside; then it is written as a whole, or not at all."""
    with Path(f"{file}.lock").open("w") as lock:
        # Two commands at once must not lose one's key.
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = {"version": 1, "principals": []}
        if file.exists():
            held = _plain(read_keys(file))
        yield held
        _write(file, _yaml(_checked(held, str(file))))


def _plain(schema: KeysFileSchema) -> dict[str, Any]:
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


def _checked(data: dict[str, Any], file: str) -> dict[str, Any]:
    try:
        KeysFileSchema.model_validate(data)
    except ValidationError as error:
        raise ConfigError(file, from_validation(error, KeysFileSchema, data)) from None
    return data


def _yaml(data: Any) -> str:
    # By JSON, lest the same list met twice becomes an alias.
    plain = json.loads(json.dumps(data))
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100)


def _write(file: Path, text: str) -> None:
    # Beside it, so that the last step is one: a gateway reads the file at any moment.
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        if file.exists():
            Path(name).chmod(file.stat().st_mode & 0o777)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
