"""The official Electricity Maps SDK: ``em_official.py URL KEY ZONE...``."""

import sys
from typing import Any

import electricitymaps.client
from electricitymaps.client import create_client
from outcome import outcome, tell


def main(url: str, key: str, zones: list[str]) -> None:
    electricitymaps.client.HOST = f"{url}/v3"
    asked = create_client(key).carbon_intensity
    told: dict[str, Any] = {}
    for zone in zones:
        told[zone] = {
            "latest": outcome(lambda z=zone: asked.latest(zone_key=z).to_dict()),
            "history": outcome(lambda z=zone: asked.history(zone_key=z).to_dict()),
            "forecast": outcome(
                lambda z=zone: asked.forecast(zone_key=z, horizon_hours=48).to_dict()
            ),
        }
    told["coordinates"] = outcome(lambda: asked.latest(lat=52, lon=13).to_dict())
    told["data_center"] = outcome(
        lambda: asked.latest(
            data_center_provider="gcp", data_center_region="europe-west3"
        ).to_dict()
    )
    told["nowhere"] = outcome(lambda: asked.latest().to_dict())
    told["lookup_disabled"] = outcome(lambda: asked.latest(disable_caller_lookup="true").to_dict())
    tell(**told)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
