"""A shipped scenario shortened to minutes, and a study of it that tests share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

SCENARIOS = Path(__file__).resolve().parents[3] / "docs" / "scenarios"


def short_scenario(folder: Path, **changes: Any) -> Path:
    """us-six-grids-50, forty minutes across a full hour, two replicas in three regions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    for name in ("us_grids_2022.csv.gz", "rtt_gcp_ms.csv"):
        shutil.copy(SCENARIOS / "data" / name, folder / "data" / name)
    text = (SCENARIOS / "us-six-grids-50.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    data["name"] = "short"
    data["start"] = "2022-05-14T19:30:00+00:00"
    data["duration"] = "40m"
    data["warm_up"] = "1m"
    data["signal"] = {"kind": "persistence", "publication_lag": "1h"}
    data["endpoints"][0]["replicas"] = {"california": 2, "texas": 1, "virginia": 1}
    data["endpoints"][0]["max_in_flight"] = 32
    data["workload"]["generate"]["load"] = 0.3
    data.update(changes)
    file = folder / "short.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return file


def waiting_scenario(folder: Path, **changes: Any) -> Path:
    """Two hours before noon in California; three requests in ten may wait."""
    kind = {
        "model": "llama-3.1-70b", "max_input_tokens": 4000, "max_output_tokens": 1000,
    }  # fmt: skip
    now = {**kind, "share": 70, "budget": {"ttft_ms": 1500, "tpot_ms": 80}}
    later = {**kind, "share": 30, "deadline": "90m"}
    workload = {
        "generate": {
            "preset": "chat", "load": 0.15, "origins": {"us-west2": {}}, "classes": [now, later],
        }
    }  # fmt: skip
    given = {"start": "2022-05-14T16:00Z", "duration": "2h", "workload": workload}
    return short_scenario(folder, **given | changes)
