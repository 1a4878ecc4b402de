"""Free parameters of a policy: which of its fields may be tuned, and in which ranges.

Written under ``free:`` by the field's path (``near_tie``, ``weights.per_e2e_ms``). Only
``carbon-router tune`` reads them; serving uses the values that the policy has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from router.config.fields import Strict
from router.config.problems import from_validation, unknown

FIXED = frozenset({"name", "description", "signal", "ladder", "free"})
_SCHEMA = TypeVar("_SCHEMA", bound=BaseModel)


class FreeSchema(Strict):
    """Where one field may lie: ``{low: 0, high: 0.1}``, or the list of its values."""

    low: float | None = Field(default=None, description="least value")
    high: float | None = Field(default=None, description="largest value")
    log: bool = Field(default=False, description="search in ratios, not in differences")
    values: list[bool | float | str] | None = Field(
        default=None, description="or these; a list alone stands for them: `[pack, spread]`"
    )

    @model_validator(mode="before")
    @classmethod
    def _list_alone(cls, given: Any) -> Any:
        return {"values": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _one_kind(self) -> FreeSchema:
        if self.values is not None:
            if (self.low, self.high, self.log) != (None, None, False):
                raise ValueError("give low and high, or values, not both")
            if len(set(self.values)) != len(self.values) or len(self.values) < 2:
                raise ValueError("needs at least two values, each once")
        elif self.low is None or self.high is None:
            raise ValueError("needs low and high, or a list of values")
        elif self.low >= self.high:
            raise ValueError(f"low {self.low:g} must lie below high {self.high:g}")
        elif self.log and self.low <= 0.0:
            raise ValueError(f"log needs low above 0, got {self.low:g}")
        return self

    def ends(self) -> list[bool | float | str]:
        """Values that are right if, and only if, everything between them is."""
        if self.values is not None:
            return list(self.values)
        return [end for end in (self.low, self.high) if end is not None]

    def __str__(self) -> str:
        if self.values is not None:
            return " or ".join(str(value).lower() for value in self.values)
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


def check_free(model: type[BaseModel], values: Mapping[str, Any], free: Mapping[str, FreeSchema],
               ) -> None:  # fmt: skip
    """Raises ValueError with everything wrong in ``free``, given a policy's other ``values``."""
    problems = []
    for path, wanted in free.items():
        known = _leaves(model)
        if path.split(".")[0] in FIXED or path not in known:
            text = unknown("field", path, known)
            if path.split(".")[0] in FIXED:
                text = "cannot be tuned"
            problems.append(f"{path}: {text}")
            continue
        for end in wanted.ends():
            given = _with(values, {path: end})
            try:
                model.model_validate(given)
            except ValidationError as error:
                # What only other fields make wrong may be right beside other values of theirs.
                texts = [text for key, text in from_validation(error, model, given) if key == path]
                if texts:
                    problems.append(f"{path}: {end!r} is no value for it: {'; '.join(texts)}")
    if problems:
        raise ValueError("; ".join(problems))


def with_values(policy: _SCHEMA, values: Mapping[str, Any]) -> _SCHEMA:
    """``policy`` with ``values`` by path. Raises ValidationError where they do not fit together."""
    given = policy.model_dump(exclude_unset=True)
    return type(policy).model_validate(_with(given, values))


def value_of(policy: BaseModel, path: str) -> Any:
    """What ``policy`` has at ``path``."""
    here: Any = policy
    for step in path.split("."):
        here = getattr(here, step)
    return here


def _leaves(model: type[BaseModel]) -> list[str]:
    """Paths of the fields that can be tuned."""
    found = []
    for name, field in model.model_fields.items():
        if name in FIXED:
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [f"{name}.{leaf}" for leaf in inner.model_fields]
        else:
            found.append(name)
    return found


def _with(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        name: value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
        for name, value in values.items()
    }
    for path, value in changes.items():
        *parents, last = path.split(".")
        here = found
        for step in parents:
            here[step] = dict(here.get(step) or {})
            here = here[step]
        here[last] = value
    return found
