"""The schema of the whole file, given the live providers that it may name.

Providers are known to rooms above this one, so the models that hold a source are made when a file
is read. Without them (`ConfigSchema`) a source is any that was made before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, create_model

from router.config.live import LiveSchema
from router.config.schema import ConfigSchema
from router.config.sources import TABLES, CarbonSchema, MarginalSchema, SourceSchema

_Model = TypeVar("_Model", bound=BaseModel)


def config_schema(live: Mapping[str, type[LiveSchema]]) -> type[ConfigSchema]:
    """`ConfigSchema` that reads these live providers, by kind, beside the tables."""
    return _config_schema(tuple({**TABLES, **live}.values()))


@cache
def _config_schema(kinds: tuple[type[SourceSchema], ...]) -> type[ConfigSchema]:
    source: Any = Annotated[reduce(or_, kinds), Field(discriminator="kind")]
    marginal: Any = _retyped(MarginalSchema, sources=list[source])
    carbon = _retyped(CarbonSchema, sources=list[source], marginal=marginal | None)
    return _retyped(ConfigSchema, carbon=carbon)


def _retyped(model: type[_Model], **types: Any) -> type[_Model]:
    """``model`` with other types of some fields; name, defaults and descriptions stay."""
    fields: Any = {name: (new, model.model_fields[name]) for name, new in types.items()}
    return create_model(
        model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **fields
    )
