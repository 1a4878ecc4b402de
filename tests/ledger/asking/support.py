"""Ledgers whose rows a test names."""

from router.core.decision_ids import decision_id
from router.ledger.asking.row_places import Deadline
from router.ledger.tables import NUMBERING, RECEIPTS
from tests.ledger.rows import SEVEN_S, cells

HOUR = int(SEVEN_S // 3600)
NAMES = [column.name for column in RECEIPTS.columns[len(NUMBERING) :]]
NEVER = Deadline(lambda: 0.0, 1.0)
PAST = Deadline(lambda: 1.0, 0.0)


def id_of(number, hour=HOUR):
    return decision_id("ab", number, 0.5, hour)


def row(number, at=SEVEN_S, **changes):
    """Cells of one receipt, ``number`` milliseconds after ``at``, unix s."""
    told = dict(zip(NAMES, cells(number + 1, at)[number], strict=True))
    usual = {
        "decision_id": id_of(number), "tenant": "acme", "outcome": "answered", "attempt": 1,
        "grid_zone": "SE", "basis": "average", "factors": "lifecycle", "run_s": 1.0,
        "energy_j": 3600.0, "pue": 1.25, "network_j": 0.0, "g_per_kwh": 40.0, "gco2e": 0.05,
    }  # fmt: skip
    return tuple({**told, **usual, **changes}[name] for name in NAMES)
