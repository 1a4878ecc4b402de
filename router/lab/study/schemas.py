"""``carbon-router schema``: the JSON schemas of the files that operators write."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel

from router.carbon.providers.registry import providers
from router.config.kinds import config_schema
from router.config.policy import PolicySchema
from router.lab.sim.scenario.schema import json_schema

FILES: Final = ("scenario", "config", "policy")


def schema_json(file: str) -> str:
    """Of one of `FILES`: draft 2020-12, for editors and other programs."""
    if file == "scenario":
        found = json_schema()
    else:
        found = _of(config_schema(providers()) if file == "config" else PolicySchema)
    return json.dumps(found, indent=2)


def _of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
