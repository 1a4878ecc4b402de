from __future__ import annotations

import pytest
from pydantic import ValidationError

from router.carbon.providers.registry import providers
from router.config.kinds import config_schema
from router.config.problems import from_validation
from router.config.schema import ConfigSchema
from tests.config.samples import sample

EIA = {"carbon": {"sources": [{"kind": "eia", "key_env": "EIA_KEY"}]}}


def test_a_schema_knows_the_providers_that_it_is_given_and_no_others() -> None:
    known = providers()
    assert config_schema(known).model_validate(sample(EIA)).carbon.sources[0].kind == "eia"
    without = config_schema({})
    with pytest.raises(ValidationError) as caught:
        without.model_validate(sample(EIA))
    assert from_validation(caught.value, without, sample(EIA)) == [
        ("carbon.sources[0]", "must be one of trace, climatology, static, got 'eia'")
    ]


def test_it_is_made_once_and_told_as_the_one_it_is_made_from() -> None:
    schema = config_schema(providers())
    assert config_schema(providers()) is schema
    assert list(schema.model_fields) == list(ConfigSchema.model_fields)
    told = schema.model_json_schema()
    assert (told["title"], told["description"]) == ("ConfigSchema", "The whole file.")
    assert told["$defs"]["CarbonSchema"]["properties"]["sources"]["minItems"] == 1
