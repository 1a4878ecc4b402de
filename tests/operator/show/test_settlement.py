import json

from rich.console import Console

from router.ledger.settlement import Price, Settlement
from router.operator.settling.settle import SettlementResult
from router.operator.show.settlement import render_settlement, settlement_json
from tests.ledger.test_settlement import measured

RESULT = SettlementResult(
    Settlement((Price(measured(), 1, 0.0), Price(measured(31.0), 2, 0.0)), 3, 4, 5, 6, 7, 8),
    None,
    {"SE": 12},
)


def test_what_became_of_every_hour_is_said():
    console = Console(width=200, record=True, quiet=False)
    with console.capture() as printed:
        console.print(render_settlement(RESULT))
    text = printed.get()
    assert "1 hours priced, 1 revised" in text
    assert "8 were said before what stands" in text
    assert "SE: 12 hours have no price yet" in text
    assert "4 are known as well or better" in text and "give its --source" in text


def test_programs_are_told_the_same():
    body = json.loads(settlement_json(RESULT))
    assert (body["priced"], body["revised"], body["late"]) == (1, 1, 5)
    assert body["older"] == 8
    assert body["open_hours"] == {"SE": 12}
