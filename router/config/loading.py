"""Files -> schemas: the configuration, the policy it names, and the profiles.

Reads files and nothing else. Relative paths are relative to the file that names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from router.config import document
from router.config.kinds import config_schema
from router.config.live import LiveSources
from router.config.policy import PolicySchema
from router.config.problems import Problem, from_validation, unknown
from router.config.profiles import ProfilesFile, build_profiles
from router.config.schema import ConfigSchema
from router.errors import ConfigError
from router.model import Profile

_S = TypeVar("_S", bound=BaseModel)


class Parsed(NamedTuple):
    """A configuration whose every key is right on its own; ``policy_name``: when it has none."""

    file: Path
    schema: ConfigSchema
    policy: PolicySchema
    policy_name: str


def parse_config(path: Path, live: LiveSources) -> Parsed:
    """Read ``path`` and the policy it names; ``live``: the live providers that it may name.

    Raises ConfigError with every unknown, missing, mistyped or out-of-bounds key of both.
    """
    data = document.parse(_read(path), str(path))
    problems: list[Problem] = []
    schema = policy = None
    name = ""
    try:
        carbon = data.get("carbon") if isinstance(data, dict) else None
        schema = _validate(config_schema(live(set(_kinds(carbon)))), data, str(path))
    except ConfigError as error:
        problems.extend(error.problems)
    chosen = data.get("policy", "carbon-first") if isinstance(data, dict) else None
    if isinstance(chosen, str | dict):
        try:
            policy, name = parse_policy(chosen, path)
        except ConfigError as error:
            problems.extend(_under_policy(error, str(path)))
    if schema is None or policy is None or problems:
        raise ConfigError(str(path), problems)
    return Parsed(path, schema, policy, name)


def _kinds(data: Any) -> Iterator[str]:
    """Every ``kind`` in ``data``, whatever else is in it."""
    if isinstance(data, dict):
        if isinstance(data.get("kind"), str):
            yield data["kind"]
        data = list(data.values())
    if isinstance(data, list):
        for inner in data:
            yield from _kinds(inner)


def parse_policy(chosen: str | dict[str, Any], config_file: Path) -> tuple[PolicySchema, str]:
    """The policy that ``policy:`` chooses, and the name it has where it names none itself.

    Raises ConfigError whose file is the policy's, or ``config_file`` for an inline one.
    """
    if isinstance(chosen, dict):
        try:
            return PolicySchema.model_validate(chosen), "inline"
        except ValidationError as error:
            found = from_validation(error, PolicySchema, chosen, prefix=("policy",))
            raise ConfigError(str(config_file), found) from error
    if chosen.endswith((".yaml", ".yml")) or "/" in chosen:
        path = config_file.parent / chosen
        data = document.parse(_read(path), str(path))
        return _validate(PolicySchema, data, str(path)), path.stem
    shipped = shipped_policies()
    if chosen not in shipped:
        what = unknown("policy", chosen, shipped)
        text = f"{what}; a shipped name, a path ending in .yaml or an inline mapping"
        raise ConfigError(str(config_file), [("policy", text)])
    file = shipped[chosen]
    data = document.parse(file.read_text(encoding="utf-8"), str(file))
    return _validate(PolicySchema, data, str(file)), chosen


def shipped_policies() -> dict[str, Traversable]:
    """Shipped policy files by name: in the installed package, else in the checkout beside it."""
    packaged = resources.files("router") / "policies"
    room: Traversable = packaged
    if not packaged.is_dir():
        room = Path(__file__).resolve().parents[2] / "policies"
    if not room.is_dir():
        raise ConfigError(str(room), [("", "the shipped policies are missing; reinstall")])
    files = (file for file in room.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): file for file in sorted(files, key=lambda f: f.name)}


def shipped_profiles() -> dict[str, Profile]:
    """The profiles that come with the package, by name."""
    file = resources.files("router") / "data" / "profiles.yaml"
    data = document.parse(file.read_text(encoding="utf-8"), str(file))
    return build_profiles(_validate(ProfilesFile, data, str(file)).profiles)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(str(path), [("", "no such file")]) from error
    except UnicodeDecodeError as error:
        text = f"not UTF-8 at byte {error.start}; save it as UTF-8"
        raise ConfigError(str(path), [("", text)]) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(str(path), [("", f"cannot be read: {reason}")]) from error


def _validate(model: type[_S], data: Any, file: str) -> _S:
    if data is None:
        raise ConfigError(file, [("", "empty; write at least its required keys")])
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(file, from_validation(error, model, data)) from error


def _under_policy(error: ConfigError, config_file: str) -> list[Problem]:
    """A policy file's problems as problems of the configuration that names it."""
    if error.file == config_file:
        return list(error.problems)
    return [
        ("policy", f"{error.file}: {key}: {text}" if key else f"{error.file}: {text}")
        for key, text in error.problems
    ]
