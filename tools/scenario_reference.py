"""Fill the field tables of docs/scenarios.md from the schemas; `--check` compares instead.

A table stands between ``<!-- fields SchemaName -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from router.lab.sim.scenario import schema
from router.lab.sim.traffic import schema as schema_workload

TARGET = Path(__file__).resolve().parents[1] / "docs" / "scenarios.md"
BLOCK = re.compile(r"(<!-- fields (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
UNITS_S = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0))
DURATIONS = ("publication_lag", "history", "noticed_after", "window", "fill", "warm_up")


def schemas() -> dict[str, type[BaseModel]]:
    """Every schema that is the scenario's own, by class name."""
    return {
        name: value
        for module in (schema, schema_workload)
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__ == module.__name__
    }


def default(name: str, field: FieldInfo) -> str:
    """A field's default as YAML, or that it is required."""
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, BaseModel):
        return "see below"
    if name in DURATIONS and value:
        unit, unit_s = next((u, s) for u, s in UNITS_S if value % s == 0)
        return f"`{value / unit_s:g}{unit}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def table(model: type[BaseModel]) -> str:
    """The Markdown table of one schema."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {default(name, field)} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def fill(text: str) -> str:
    """``text`` with every table rewritten. Raises KeyError for an unknown schema."""
    known = schemas()
    return BLOCK.sub(lambda m: f"{m[1]}{table(known[m[2]])}{m[3]}", text)


def undocumented(text: str) -> set[str]:
    """Schemas whose table ``text`` does not ask for."""
    return set(schemas()) - {match[2] for match in BLOCK.finditer(text)}


def main() -> int:
    """Rewrite docs/scenarios.md, or with ``--check`` say whether it is up to date."""
    text = TARGET.read_text(encoding="utf-8")
    filled, missing = fill(text), undocumented(text)
    if missing:
        print(f"{TARGET}: no table for {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(filled, encoding="utf-8")
        return 0
    if filled != text:
        print(f"{TARGET} is out of date; run tools/scenario_reference.py", file=sys.stderr)
    return int(filled != text)


if __name__ == "__main__":
    sys.exit(main())
