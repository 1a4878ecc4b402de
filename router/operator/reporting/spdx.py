"""A report's energy as SPDX 3.0.1: ai_EnergyConsumption of the model's AI package, as JSON-LD.

To be merged into the model's own document: who supplies it, its version and where it can be had are
not known here, so that the AI profile is not claimed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from router.ledger.month import hour_text
from router.operator.reporting.gather import GroupSums, Report

_CONTEXT: Final = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
_BASE: Final = "https://spdx.org/spdxdocs/carbon-router"


def spdx(report: Report, figures: GroupSums) -> str:
    """Of one model. ``inferenceEnergyConsumption`` is of the whole month; of one answer it is in
    the comment, as the profile has no field for what a figure is for."""
    name = figures.group
    base = f"{_BASE}-{hashlib.sha256(f'{report.digest}/{name}'.encode()).hexdigest()[:32]}"
    created = hour_text(report.month.end_hour)
    kwh = figures.energy("facility_q").kwh
    answered = figures.count("answered")
    each = f"{kwh / answered:.9g} kWh an answer, " if answered else ""
    graph: list[dict[str, Any]] = [
        {
            "@id": "_:creation",
            "type": "CreationInfo",
            "specVersion": "3.0.1",
            "created": created,
            "createdBy": [f"{base}#agent"],
            "createdUsing": [f"{base}#tool"],
        },
        _element("SoftwareAgent", f"{base}#agent", "carbon-router"),
        _element("Tool", f"{base}#tool", f"carbon-router {report.version}"),
        {
            **_element("ai_AIPackage", f"{base}#model", name),
            "comment": (
                f"{report.month}, UTC: {answered} answers, {each}"
                f"{figures.mass('total_g').g:.9g} gCO2e location-based with embodied; of receipts "
                f"whose files have the SHA-256 {report.digest}"
            ),
            "software_primaryPurpose": "model",
            "ai_energyConsumption": {
                "type": "ai_EnergyConsumption",
                "ai_inferenceEnergyConsumption": [
                    {
                        "type": "ai_EnergyConsumptionDescription",
                        # A decimal; exponents are none in XML Schema.
                        "ai_energyQuantity": f"{kwh:.12f}",
                        "ai_energyUnit": "kilowattHour",
                    }
                ],
            },
        },
        {
            **_element("SpdxDocument", f"{base}#document", f"{name}, {report.month}"),
            "profileConformance": ["core"],
            "rootElement": [f"{base}#model"],
            "element": [f"{base}#agent", f"{base}#tool", f"{base}#model"],
        },
    ]
    return json.dumps({"@context": _CONTEXT, "@graph": graph}, indent=2, ensure_ascii=False) + "\n"


def _element(kind: str, spdx_id: str, name: str) -> dict[str, Any]:
    return {"type": kind, "spdxId": spdx_id, "creationInfo": "_:creation", "name": name}
