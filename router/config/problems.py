"""Pydantic's errors -> (key path, what is wrong and how to fix it)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Problem = tuple[str, str]
Step = str | int

# Keys that were looked for in another place, by schema.
_ELSEWHERE = {
    ("PolicySchema", "carbon_budget"): "it stands in the configuration, beside `policy`: what is "
    "spent stays spent, whatever policy decides",
}
_SHOWN = 60
_LISTED = 12


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when none is near."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """``unknown WHAT 'word'`` with the nearest known one, or the known ones where few."""
    names = sorted(known)
    guess = nearest(word, names)
    if guess is not None:
        fix = f"did you mean {guess!r}?"
    elif not names:
        fix = "none is defined"
    else:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        fix = f"known: {', '.join(names[:_LISTED])}{more}"
    return f"unknown {what} {word!r}; {fix}"


def key_path(steps: Sequence[Step]) -> str:
    """``endpoints[2].address``; a key that has a dot itself is quoted."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
            continue
        text = step if step.replace("_", "").replace("-", "").isalnum() else repr(step)
        path += f".{text}" if path else text
    return path


def from_validation(
    error: ValidationError, model: type[BaseModel], data: Any, prefix: Sequence[Step] = ()
) -> list[Problem]:
    """Every defect that pydantic found in ``data`` while validating it as ``model``."""
    problems = []
    for details in error.errors(include_url=False):
        steps = _in_document(details, data)
        problems.append((key_path([*prefix, *steps]), _explain(details, model)))
    return problems


def _in_document(details: ErrorDetails, data: Any) -> list[Step]:
    """The error's location without the union tags that pydantic adds to it."""
    steps: list[Step] = []
    here = data
    location = [step for step in details["loc"] if step != "[key]"]
    for index, step in enumerate(location):
        in_map = isinstance(here, dict) and step in here
        in_list = isinstance(here, list) and isinstance(step, int) and step < len(here)
        if in_map or in_list:
            steps.append(str(step) if in_map else step)
            here = here[step]
        elif index == len(location) - 1 and details["type"] == "missing":
            steps.append(step)
    return steps


def _explain(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    last = str(details["loc"][-1]) if details["loc"] else ""
    if kind == "extra_forbidden" and (model.__name__, last) in _ELSEWHERE:
        return f"unknown key {last!r}; {_ELSEWHERE[model.__name__, last]}"
    if kind == "extra_forbidden":
        return unknown("key", last, _fields_at(model, details["loc"][:-1]))
    if kind == "missing":
        meaning = _meaning(model, details["loc"])
        return f"required, but missing{': ' + meaning if meaning else ''}"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("literal_error", "union_tag_invalid"):
        return _one_of(given, context, kind)
    if kind == "union_tag_not_found":
        return f"needs kind, one of {', '.join(_tags_at(model, details['loc']))}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    return _expected(kind, given, details)


def _one_of(given: Any, context: dict[str, Any], kind: str) -> str:
    if kind == "union_tag_invalid":
        given = context["tag"]
        allowed = context["expected_tags"]
    else:
        allowed = context["expected"].replace(" or ", ", ")
    names = [name.strip().strip("'") for name in allowed.split(",")]
    guess = nearest(str(given), names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    choice = f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    return f"must be {choice}, got {_show(given)}{hint}"


_EXPECTED = {
    "string_type": "text",
    "invalid_key": "a key that is text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}


def _expected(kind: str, given: Any, details: ErrorDetails) -> str:
    if kind in _EXPECTED:
        quote = ""
        if kind in ("string_type", "invalid_key") and isinstance(given, bool | int | float):
            quote = "; put it in quotes"
        if given is None:
            return f"expected {_EXPECTED[kind]}, got nothing; give a value or remove the key"
        return f"expected {_EXPECTED[kind]}, got {_show(given)}{quote}"
    message = details["msg"].removeprefix("Input ").replace("should be", "must be")
    return f"{message}, got {_show(given)}"


def _show(given: Any) -> str:
    if isinstance(given, dict):
        return "a mapping"
    if isinstance(given, list):
        return "a list"
    text = repr(given) if isinstance(given, str) else str(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _meaning(model: type[BaseModel], location: Sequence[Step]) -> str:
    owner = _schema_at(model, location[:-1])
    field = owner.model_fields.get(str(location[-1])) if owner else None
    return (field.description or "") if field else ""


def _fields_at(model: type[BaseModel], location: Sequence[Step]) -> list[str]:
    owner = _schema_at(model, location)
    return list(owner.model_fields) if owner else []


def _schema_at(model: type[BaseModel], location: Sequence[Step]) -> type[BaseModel] | None:
    """The schema that ``location`` (as pydantic gives it, union tags included) leads to."""
    here: Any = model
    for step in location:
        here = _descend(_bare(here), step)
    here = _bare(here)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _tags_at(model: type[BaseModel], location: Sequence[Step]) -> list[str]:
    here: Any = model
    for step in location:
        here = _descend(_bare(here), step)
    return [found for member in get_args(_bare(here)) if (found := tag(member)) is not None]


def _descend(here: Any, step: Step) -> Any:
    if isinstance(here, type) and issubclass(here, BaseModel):
        field = here.model_fields.get(str(step))
        return field.annotation if field else None
    origin, arguments = get_origin(here), get_args(here)
    if origin is list:
        return arguments[0]
    if origin is dict:
        return arguments[1]
    for member in arguments:
        if tag(member) == step:
            return member
    return None


def tag(member: Any) -> str | None:
    """What a schema is told by among others: the one value of its ``kind``; None without one."""
    field = getattr(member, "model_fields", {}).get("kind")
    names = get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
    return str(names[0]) if names else None


def _bare(annotation: Any) -> Any:
    """``annotation`` without Annotated and without `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    members = get_args(annotation)
    if NoneType in members:
        rest = [member for member in members if member is not NoneType]
        if len(rest) == 1:
            return _bare(rest[0])
    return annotation
