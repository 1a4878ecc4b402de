"""Fill the field tables of docs/config.md from the schemas; `--check` compares instead.

A table stands between ``<!-- fields SchemaName -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from router.carbon.providers.registry import BUILT_IN
from router.config.identity import KeysFileSchema
from router.config.kinds import config_schema
from router.config.policy import PolicySchema
from router.config.problems import tag

TARGET = Path(__file__).resolve().parents[1] / "docs" / "config.md"
BLOCK = re.compile(r"(<!-- fields (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
TYPES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "text or mapping",
}
TAGGED = "mapping with `kind:` "
# Of bounds at one limit the exclusive one is the narrower: it comes last.
LOWER: dict[type, tuple[str, str]] = {
    annotated_types.Ge: ("ge", ">="),
    annotated_types.Gt: ("gt", ">"),
}
UPPER: dict[type, tuple[str, str]] = {
    annotated_types.Le: ("le", "<="),
    annotated_types.Lt: ("lt", "<"),
}


def schemas() -> dict[str, type[BaseModel]]:
    """Every schema of a configuration, a policy and a file of keys, by class name."""
    built_in = {str(tag(schema)): schema for schema in BUILT_IN}
    found: dict[str, type[BaseModel]] = {}
    for whole in (config_schema(built_in), PolicySchema, KeysFileSchema):
        collect(whole, found)
    return found


def collect(annotation: Any, found: dict[str, type[BaseModel]]) -> None:
    """Put every schema that ``annotation`` is made of into ``found``."""
    for argument in get_args(annotation):
        collect(argument, found)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found[annotation.__name__] = annotation
        for field in annotation.model_fields.values():
            collect(field.annotation, found)


def describe(annotation: Any) -> str:
    """A field's type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if any(isinstance(item, BeforeValidator) for item in arguments[1:]):
            # Not as it is written.
            return "UTC time" if arguments[0] is float else f"mapping or {describe(arguments[0])}"
        limits = bounds(arguments[1:])
        return describe(arguments[0]) + (f", {limits}" if limits else "")
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {describe(arguments[0])}"
    if origin is dict:
        return f"mapping of {describe(arguments[0])} to {describe(arguments[1])}"
    if arguments:
        words = [describe(argument) for argument in arguments if argument is not NoneType]
        tags = [word.removeprefix(TAGGED) for word in words if word.startswith(TAGGED)]
        if len(tags) > 1 and len(tags) == len(words):
            return f"{TAGGED}{', '.join(tags)}"
        return " or ".join(dict.fromkeys(words))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return f"{TAGGED}`{get_args(kind.annotation)[0]}`" if kind else "mapping"
    return TYPES[annotation]


def default(field: FieldInfo) -> str:
    """A field's default as YAML, or that it is required."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or value is None:
        return "none"
    if isinstance(value, BaseModel) or value == {}:
        return "see below" if isinstance(value, BaseModel) else "none"
    if isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
        return ", ".join(str(getattr(item, "kind", "")) for item in value)
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "empty"


def bounds(metadata: Iterable[Any]) -> str:
    """The narrowest numeric bounds, such as ``>= 1, <= 256``."""
    parts = [part for item in metadata for part in getattr(item, "metadata", [item])]
    found = []
    for kinds, narrower in ((LOWER, 1.0), (UPPER, -1.0)):
        limits = [
            (narrower * getattr(part, attribute), rank, sign)
            for rank, (kind, (attribute, sign)) in enumerate(kinds.items())
            for part in parts
            if isinstance(part, kind)
        ]
        if limits:
            limit, _, sign = max(limits)
            found.append(f"{sign} {narrower * limit:,.15g}".replace(",", " "))
    return ", ".join(found)


def table(model: type[BaseModel]) -> str:
    """The Markdown table of one schema."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        limits = bounds(field.metadata)
        value = describe(field.annotation) + (f", {limits}" if limits else "")
        if any(isinstance(item, BeforeValidator) for item in field.metadata):
            # What is not as it is written: a time, or one that stands for a list of one.
            value = "UTC time" if field.annotation is float else f"mapping or {value}"
        meaning = field.description or ""
        lines.append(f"| `{name}` | {value} | {default(field)} | {meaning} |")
    return "\n".join(lines).replace(" |  |", " | |") + "\n"


def fill(text: str) -> str:
    """``text`` with every table rewritten. Raises KeyError for an unknown schema."""
    known = schemas()
    return BLOCK.sub(lambda m: f"{m[1]}{table(known[m[2]])}{m[3]}", text)


def undocumented(text: str) -> set[str]:
    """Schemas whose table ``text`` does not ask for."""
    return set(schemas()) - {match[2] for match in BLOCK.finditer(text)}


def main() -> int:
    """Rewrite docs/config.md, or with ``--check`` say whether it is up to date."""
    text = TARGET.read_text(encoding="utf-8")
    filled = fill(text)
    missing = undocumented(text)
    if missing:
        print(f"{TARGET}: no table for {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(filled, encoding="utf-8")
        return 0
    if filled != text:
        print(f"{TARGET} is out of date; run tools/config_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
