"""What every built-in live provider promises, whichever it is: the registry is the list."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from router.app.carbon.build import build_carbon
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.loading import load
from router.carbon.providers.provider import Want
from router.carbon.providers.registry import BUILT_IN
from router.carbon.providers.schema import ProviderSchema
from router.config.problems import tag
from router.config.settings import LiveSpec
from router.model import Basis, Factors, Signal
from tests.carbon import fault_providers
from tests.carbon.http_support import StillClock
from tests.config.samples import write
from tests.contract import test_broken_rows

# What a provider cannot do without, beside its credentials.
NEEDED: dict[str, dict[str, Any]] = {"energy_charts": {"factors": "direct"}}
ENVIRON = {"SECRET": "k-3f9a71c2e5"}
LIFECYCLE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)


@pytest.fixture(params=BUILT_IN, ids=lambda schema: str(tag(schema)))
def schema(request: pytest.FixtureRequest) -> type[ProviderSchema]:
    found: type[ProviderSchema] = request.param
    return found


def test_its_client_keeps_what_its_schema_says(
    tmp_path: Path, schema: type[ProviderSchema]
) -> None:
    kind = str(tag(schema))
    if kind == "entsoe":
        pytest.importorskip("entsoe", reason="LOUD: entsoe-py is not installed")
    source = {"kind": kind, "name": "own", **NEEDED.get(kind, {})}
    source |= {f"{stem}_env": "SECRET" for stem in schema.credentials}
    signal = schema.model_validate(source).published_signal() or LIFECYCLE
    carbon = {"basis": str(signal.basis), "factors": str(signal.factors), "sources": [source]}
    settings = load(write(tmp_path, {"carbon": carbon})).settings.carbon
    (spec,) = settings.sources
    assert isinstance(spec, LiveSpec) and type(spec.schema) is schema
    deps = ProviderDeps(StillClock(), random.Random(1), ENVIRON, Sessions())
    (member,) = build_carbon(settings, 0.0, deps).members
    provider = member.provider
    assert provider is not None
    assert (provider.name, provider.signal) == ("own", signal)
    assert provider.wants == schema.wants >= {Want.LATEST, Want.HISTORY}
    assert provider.grid_zones >= spec.zones.keys()
    assert bool(provider.grid_zones - spec.zones.keys()) == schema.by_location
    assert provider.zones_per_call >= 1 and 0.0 < provider.publishes_every_s < math.inf


def test_broken_rows_and_faults_are_tried_on_it(schema: type[ProviderSchema]) -> None:
    module = schema.__module__.rpartition(".")[2]
    assert module in {name.split()[0] for name in test_broken_rows.CASES}
    assert tag(schema) in fault_providers.CASES
