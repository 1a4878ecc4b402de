"""The official WattTime SDK: ``watttime_sdk.py USER PASSWORD START END REGION...``.

Its host comes from WATTTIME_API_URL.
"""

import sys
from typing import Any

from outcome import outcome, tell
from watttime import WattTimeForecast, WattTimeHistorical, WattTimeMyAccess


def records(frame: Any) -> list[dict[str, Any]]:
    return [
        {name: str(value) if "time" in name else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def main(user: str, password: str, start: str, end: str, regions: list[str]) -> None:
    forecast = WattTimeForecast(user, password)
    history, access = WattTimeHistorical(user, password), WattTimeMyAccess(user, password)
    told: dict[str, Any] = {}
    for region in regions:
        told[region] = {
            "forecast": outcome(lambda r=region: forecast.get_forecast_json(r, horizon_hours=24)),
            "nowcast": outcome(lambda r=region: forecast.get_forecast_json(r, horizon_hours=0)),
            "history": outcome(
                lambda r=region: records(
                    history.get_historical_pandas(start, end, r, include_imputed_marker=True)
                )
            ),
            "past_forecasts": outcome(
                lambda r=region: records(
                    forecast.get_historical_forecast_pandas(start, end, r, horizon_hours=1)
                )
            ),
        }
    told["where"] = outcome(lambda: forecast.region_from_loc(38.0, -121.5))
    told["sea"] = outcome(lambda: forecast.region_from_loc(0.0, 0.0))
    told["access"] = outcome(lambda: records(access.get_access_pandas()))
    # Half an hour later, as far as the client's token is concerned.
    forecast.headers = {"Authorization": "Bearer of old"}
    told["expired"] = outcome(lambda: forecast.get_forecast_json(regions[0]))
    tell(**told)


if __name__ == "__main__":
    main(*sys.argv[1:5], sys.argv[5:])
