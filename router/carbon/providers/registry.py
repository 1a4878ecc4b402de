"""Every built-in live provider, here and only here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from router.carbon.providers import eia, electricity_maps, energy_charts, entsoe, gb, watttime
from router.carbon.providers.schema import ProviderSchema
from router.config.problems import tag

# In the order of `zones`.
BUILT_IN: Final[tuple[type[ProviderSchema], ...]] = (
    electricity_maps.ElectricityMapsSchema,
    watttime.WattTimeSchema,
    gb.GreatBritainSchema,
    energy_charts.EnergyChartsSchema,
    eia.EiaSchema,
    entsoe.EntsoeSchema,
)


def providers(named: Collection[str] = ()) -> Mapping[str, type[ProviderSchema]]:
    """Every live provider by kind, whichever kinds are ``named``."""
    return {str(tag(schema)): schema for schema in BUILT_IN}
