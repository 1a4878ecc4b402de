"""entsoe-py: ``entsoe_pandas.py KEY START END AREA...``; its URL is ENTSOE_ENDPOINT_URL."""

import sys
from typing import Any

import pandas as pd
from entsoe import EntsoePandasClient
from outcome import outcome, tell


def columns(frame: Any) -> dict[str, dict[str, float]]:
    """Values by column (levels joined by a slash) and by UTC stamp."""
    utc = frame.tz_convert("UTC")
    stamps = [stamp.isoformat() for stamp in utc.index]
    return {
        "/".join(name) if isinstance(name, tuple) else name: dict(
            zip(stamps, column.tolist(), strict=True)
        )
        for name, column in utc.items()
    }


def main(key: str, start: str, end: str, areas: list[str]) -> None:
    span = {"start": pd.Timestamp(start), "end": pd.Timestamp(end)}

    def ask(client: Any, area: str) -> dict[str, Any]:
        return outcome(lambda: columns(client.query_generation(area, **span)))

    good = EntsoePandasClient(api_key=key, retry_count=1, retry_delay=0, timeout=20)
    bad = EntsoePandasClient(api_key="wrong", retry_count=1, retry_delay=0, timeout=20)
    tell(**{area: ask(good, area) for area in areas}, wrong_key=ask(bad, areas[0]))


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[4:])
