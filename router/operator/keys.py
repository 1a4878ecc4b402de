"""What `key` does: makes keys, lists and revokes them where they are kept."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from router.config.fields import format_time
from router.config.identity import ApiKeySchema, KeyedPrincipalSchema
from router.errors import ConfigError
from router.identity.api_keys import new_key
from router.operator.key_places import KeysPlace, as_yaml, checked


class MadeKey(NamedTuple):
    """``text``: the key, which is nowhere else. ``entry``: what a file holds of it, YAML."""

    text: str
    entry: str


class ListedKey(NamedTuple):
    """One key, and what its principal may. ``state``: valid, not yet, or expired; times
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
    principal: dict[str, Any],
    not_before: float | None,
    expires: float | None,
    place: KeysPlace | None,
) -> MadeKey:
    """A new key of ``principal`` (keys as in a file), put into ``place`` where there is one.

    A principal that is there already gets one more key and stays as it is otherwise. Times:
    unix s. Raises ConfigError.
    """
    made = new_key(secrets.token_bytes)
    key = {"id": made.key_id, "sha256": made.sha256}
    for name, value in (("not_before", not_before), ("expires", expires)):
        if value is not None:
            key[name] = format_time(value)
    entry = checked({"version": 1, "principals": [{**principal, "keys": [key]}]}, "the key")
    if place is not None:
        place.change(lambda held: _add(held, entry["principals"][0], place.name))
    return MadeKey(made.text, as_yaml(entry["principals"]))


def listed_keys(place: KeysPlace, now: float) -> list[ListedKey]:
    """Every key that is there, and what is true of it at ``now``, unix s. Raises ConfigError."""
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
        for one in place.read().principals
        for key in one.keys
    ]


def revoke_key(place: KeysPlace, key_id: str) -> str:
    """Take a key out; whose it was. Raises ConfigError where it is not there."""

    def without(held: dict[str, Any]) -> str:
        for one in held["principals"]:
            left = [key for key in one["keys"] if key["id"] != key_id]
            if len(left) < len(one["keys"]):
                one["keys"] = left
                return str(one["name"])
        # Not repeated: it may be a whole key.
        raise ConfigError(place.name, [("", "no key has this id; `key ls` shows those there are")])

    return place.change(without)


def _limits(one: KeyedPrincipalSchema) -> str:
    given = one.limits.model_dump(exclude_none=True)
    return ", ".join(f"{value:g} {key}" for key, value in given.items())


def _state(key: ApiKeySchema, now: float) -> str:
    if key.expires is not None and now >= key.expires:
        return "expired"
    return "not yet" if key.not_before is not None and now < key.not_before else "valid"


def _add(held: dict[str, Any], principal: dict[str, Any], where: str) -> None:
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
                    "to add a key, or change what it may there"
                )
                raise ConfigError(where, [("principals", text)])
            one["keys"] = [*one["keys"], *principal["keys"]]
            return
    held["principals"].append(principal)
