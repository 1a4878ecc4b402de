import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from router.app.loading import load
from router.lab.demo.openai import fleet, report
from router.lab.demo.openai.asking import AskedChat, Ending
from router.lab.demo.openai.fleet import PORTS, ChatQuestion, Ports
from router.lab.demo.openai.scene import Kill, Scene
from router.lab.loopback.watch import GridReading

READING = GridReading(0.0, fleet.START, {"california": 100.0, "new-york": 250.0}, {"a": "forecast"})


def answered(region: str, ttft_ms: float, gco2e: float = 0.001, attempts: int = 1) -> AskedChat:
    return AskedChat(
        ChatQuestion(0.0, "why?"),
        10.0,
        10.0,
        10.0 + ttft_ms / 1e3,
        Ending.ANSWERED,
        region=region,
        text="Because.",
        energy={"joules": 2.5, "source": "estimated"},
        receipt={
            "energy_j": 2.0, "energy_kind": "estimated", "gco2e": gco2e, "attempts": attempts,
            "predicted_gco2e": 0.001, "latency_first_gco2e": 0.002,
        },
    )  # fmt: skip


def ended(ending: Ending, why: str) -> AskedChat:
    return AskedChat(ChatQuestion(0.0, "why?"), 10.0, ending=ending, why=why)


ASKED = [
    answered("california", 100.0),
    answered("california", 3_000.0),
    answered("new-york", 200.0, gco2e=0.004, attempts=2),
    ended(Ending.CUT, "upstream_lost"),
    ended(Ending.REFUSED, "shed"),
]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    ports = Ports.of(range(20_000, 20_000 + PORTS))
    config = load(fleet.write(tmp_path, ports, fleet.period(60.0)))
    return Scene(
        config, fleet.period(60.0), ASKED, [READING], Kill("california", READING, 2, 1), 3.25, 2
    )


def test_everything_is_counted_once() -> None:
    found = report.figures(ASKED, ["california", "new-york", "texas"])
    assert found.endings == {Ending.ANSWERED: 3, Ending.CUT: 1, Ending.REFUSED: 1}
    assert found.moved == 1
    assert found.total.answers == 3
    assert found.total.in_budget == 2
    assert found.total.gco2e == pytest.approx(0.006)
    assert found.by_region["california"].ttft_p95_ms == pytest.approx(3_000.0)
    assert found.by_region["texas"].answers == 0
    assert (found.compared, found.predicted_gco2e) == (3, pytest.approx(0.003))
    assert found.latency_first_gco2e == pytest.approx(0.006)


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    unknown = answered("texas", 100.0)
    unknown.receipt = {}
    found = report.figures([*ASKED, unknown], ["texas"])
    assert math.isnan(found.total.gco2e)
    assert found.compared == 3


def test_a_loss_or_too_few_answers_are_a_failure() -> None:
    assert report.is_whole(report.figures(ASKED, []))
    lost = [*ASKED, ended(Ending.LOST, "upstream_lost")]
    assert not report.is_whole(report.figures(lost, []))
    few = [*ASKED, *(ended(Ending.REFUSED, "shed") for _ in range(9))]
    assert not report.is_whole(report.figures(few, []))
    assert not report.is_whole(report.figures([], []))


def test_what_is_printed_names_every_kind_and_the_kill(scene: Scene) -> None:
    text = io.StringIO()
    Console(file=text, width=500).print(report.render(scene))
    told = text.getvalue()
    for part in (
        "3 of 5 questions answered", "Lost: 0.", "Moved: 1", "error event: 1", "Refused: 1",
        "2 of 3", "llama-california, the greenest then (100 g/kWh)", "6.000 mg", "(-50%)",
        "Because.", '"joules": 2.5', "measured", "estimated", "assumed", "historical", "forecast",
        "2 cores; its load average at the end was 3.2",
    ):  # fmt: skip
        assert part in told, part


def test_a_scene_in_which_nothing_was_answered_can_be_shown(scene: Scene) -> None:
    text = io.StringIO()
    nothing = scene._replace(asked=[], readings=[], kill=None)
    Console(file=text, width=500).print(report.render(nothing))
    assert "no receipt says" in text.getvalue()
    assert json.loads(json.dumps(report.as_json(nothing), allow_nan=False))["killed"] is None


def test_the_figures_are_json(scene: Scene) -> None:
    told = json.loads(json.dumps(report.as_json(scene), allow_nan=False))
    assert told["figures"]["moved"] == 1
    assert told["energy_kind"] == "estimated"
    assert [one["ending"] for one in told["questions"]].count("answered") == 3
