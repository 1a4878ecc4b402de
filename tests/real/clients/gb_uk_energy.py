"""uk-energy's Carbon Intensity client: ``gb_uk_energy.py URL NOW REGION``."""

import sys
from typing import Any

from outcome import outcome, tell
from uk_energy.carbon_intensity import CarbonIntensityClient
from uk_energy.core import RateLimit, RetryOptions

RETRY = RetryOptions(retries=0)
QUICK = RateLimit(1000, burst=1000)


def main(url: str, now: str, region: int) -> None:
    with CarbonIntensityClient(base_url=url, retry=RETRY, rate_limit=QUICK) as asked:
        calls: dict[str, Any] = {
            "current": asked.intensity_current,
            "at": lambda: asked.intensity_at(now),
            "forward": lambda: asked.intensity_forward48h(now),
            "past": lambda: asked.intensity_past24h(now),
            "factors": asked.intensity_factors,
            "region": lambda: asked.regional_for_region(region),
            "region_forward": lambda: asked.regional_for_region(region, now, span="fw48h"),
            "postcode": lambda: asked.regional_for_postcode("SW1A 1AA"),
            "postcode_forward": lambda: asked.regional_for_postcode("SW1A", now, span="fw24h"),
            "all_regions": lambda: asked.regional_series(now, span="fw24h"),
            "spring": lambda: asked.intensity_for_date("2022-03-27"),
            "summer": lambda: asked.intensity_for_date("2022-05-14"),
            "autumn": lambda: asked.intensity_for_date("2022-10-30"),
            "unknown_region": lambda: asked.regional_for_region(99),
        }
        tell(**{name: outcome(call) for name, call in calls.items()})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
