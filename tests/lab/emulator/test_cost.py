import json

import pytest

from router.lab.emulator.cost import RequestCost
from router.lab.replay.replica import Ended
from router.load.orca import OrcaReader

RECORD = Ended("a", 3.0, True, 1.0, 1.0, 1.5, 100.0, 20.0, 130.0, 30.0, 13.0, 8, 96.0)


@pytest.mark.parametrize("form", [RequestCost.as_text, RequestCost.as_json])
def test_the_gateway_reads_the_report_in_either_form(form):
    value = form(RequestCost.of([RECORD, RECORD], 64))
    report = OrcaReader().read((("endpoint-load-metrics", value),))
    assert (report.energy_j, report.marginal_energy_j) == (260.0, 26.0)
    assert (report.output_tokens, report.cached_tokens) == (40.0, 192.0)
    assert not report.malformed


def test_a_comment_says_joules_and_that_they_are_emulated():
    comment = RequestCost.of([RECORD], 64).as_comment()
    assert comment.startswith(b": energy {") and comment.endswith(b"}\n\n")
    told = json.loads(comment.removeprefix(b": energy "))
    assert told == {"joules": 130.0, "marginal_joules": 13.0, "source": "emulated"}
