"""Every name is one that OpenTelemetry publishes, or is under our own prefix."""

import importlib
import pkgutil

import pytest
from opentelemetry.semconv._incubating import attributes as incubating
from opentelemetry.semconv.schemas import Schemas

from router.telemetry.tracing import conventions
from router.telemetry.tracing.conventions import BY_NAME, DEPLOYED, LATEST


def published():
    """Names of attributes, deprecated ones included."""
    found = set()
    for module in pkgutil.iter_modules(incubating.__path__):
        constants = vars(importlib.import_module(f"{incubating.__name__}.{module.name}"))
        found |= {value for key, value in constants.items() if key.isupper()}
    return {name for name in found if isinstance(name, str)}


def ours():
    """Constants with a dot in them."""
    values = {key: value for key, value in vars(conventions).items() if key.isupper()}
    return {key: value for key, value in values.items() if isinstance(value, str) and "." in value}


def test_shared_names_are_published_ones_or_ours():
    known = published()
    own = {name for name in ours().values() if name.startswith("carbon_router.")}
    assert {name for name in ours().values() if name not in own} <= known
    # Whoever invents a name in somebody else's room will meet it with another meaning.
    assert not own & known
    assert len(set(ours().values())) == len(ours())


@pytest.mark.parametrize("table", BY_NAME.values())
def test_names_of_a_release_are_published(table):
    fields = table._asdict()
    # The metric's is held in tests/telemetry/otlp/test_names.py.
    del fields["release"], fields["qualified_method"], fields["open_descriptors"]
    # What was `rpc.service` is part of `rpc.method` since.
    gone = {"rpc.service"}
    assert {name for name in fields.values() if name} - gone <= published()
    assert table.schema_url in {schema.value for schema in Schemas}


def test_no_word_of_carbon_is_among_theirs():
    assert not [name for name in published() if "carbon" in name or "co2" in name]


def test_deployed_names_are_those_that_tools_read():
    assert DEPLOYED.rpc_system == "rpc.system"
    assert (LATEST.rpc_system, LATEST.rpc_service) == ("rpc.system.name", "")
