"""The weather of one grid zone by the hour: what it is measured in, and what it can be.

Every provider and file comes down to this: means over hours (UTC), in SI units. What a planet can
have bounds each value; one outside is a slip or another unit, and is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Quantity(NamedTuple):
    """One quantity of the weather, its unit, and the least and most that are believed.

    ``otherwise``: which unit a value beyond them is probably in.
    """

    name: str
    unit: str
    least: float
    most: float
    otherwise: str

    def why_not(self, value: float) -> str:
        """Why ``value`` cannot be, "" for one that can."""
        if self.least <= value <= self.most:
            return ""
        bounds = f"{self.least:g} to {self.most:g} {self.unit}"
        return f"{value:g} is no {self.name} ({bounds}); {self.otherwise}"


# Records: gusts of 113 m/s, 56.7 and -89.2 degrees, 305 mm in 42 minutes (WMO World Weather and
# Climate Extremes Archive); dew points up to 35. Irradiance on the ground passes the solar
# constant, 1361 W/m2, for minutes under broken cloud; an hour's mean does not.
QUANTITIES: Final = (
    Quantity("wind_speed", "m/s", 0.0, 75.0, "divide km/h by 3.6"),
    Quantity("irradiance", "W/m2", 0.0, 1_400.0, "multiply MJ/m2 an hour by 277.8"),
    Quantity("temperature", "degrees Celsius", -90.0, 60.0, "subtract 273.15 from kelvin"),
    Quantity("dew_point", "degrees Celsius", -100.0, 45.0, "subtract 273.15 from kelvin"),
    Quantity("precipitation", "mm an hour", 0.0, 300.0, "multiply metres by 1000"),
)
WIND, IRRADIANCE, TEMPERATURE, DEW_POINT, PRECIPITATION = range(len(QUANTITIES))


class WeatherForecast(NamedTuple):
    """What was said of a grid zone's weather at one time, of the past hours too.

    ``issued_at``: unix s, when it was known. ``first_h``: its first hour, in hours since 1970, UTC.
    ``values``: (hours, quantities) in the order of QUANTITIES, NaN where nothing is known.
    """

    source: str
    issued_at: float
    first_h: int
    values: Array

    @property
    def end_h(self) -> int:
        """The hour after the last one."""
        return self.first_h + len(self.values)


def weighted_mean(parts: Sequence[Array], weights: Sequence[float]) -> Array:
    """The mean of points' values (hours, quantities) by their weights; an hour that one point lacks
    is unknown: another set of points is another weather."""
    total = np.zeros_like(parts[0])
    for values, weight in zip(parts, weights, strict=True):
        total += values * (weight / sum(weights))
    return total
