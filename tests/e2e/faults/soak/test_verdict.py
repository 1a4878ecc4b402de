"""What a soak calls unavoidable is that and no more, and what is promised breaks it."""

import pytest

from tests.e2e.faults.fronts import IN_BAND, OK, TORN, Ended
from tests.e2e.faults.soak.breaking import Fault
from tests.e2e.faults.soak.report import End, Run, Sample
from tests.e2e.faults.soak.rig import Down
from tests.e2e.faults.soak.traffic import Outcome
from tests.e2e.faults.soak.verdict import CUT, KILLED, breaches, cause_of

WELL = Ended(10.0, 10.3, OK)
TORN_AT_11 = Ended(10.0, 11.0, TORN)
CUT_SHORT = Ended(
    10.0, 11.0, IN_BAND, "upstream_lost", messages=7, told="lost", came=7, seen_bytes=700
)


def outcome(ended, front="oip"):
    return Outcome(1, front, False, ended)


@pytest.mark.parametrize(
    ("ended", "front", "downs", "cause"),
    [
        (WELL, "oip", [], ""),
        (TORN_AT_11, "oip", [Down(1, 10.9, True)], KILLED),
        # The kernel tells of it a moment later, or the note was taken a moment before.
        (TORN_AT_11, "oip", [Down(1, 11.2, True)], KILLED),
        (TORN_AT_11, "oip", [Down(1, 10.9, False)], "TORN"),
        (TORN_AT_11, "oip", [Down(2, 10.9, True)], "TORN"),
        (TORN_AT_11, "oip", [Down(1, 9.0, True)], "TORN"),
        (TORN_AT_11, "oip", [Down(1, 15.0, True)], "TORN"),
        (CUT_SHORT, "oip", [], CUT),
        (CUT_SHORT._replace(came=700), "openai", [], CUT),
        (CUT_SHORT._replace(came=6), "oip", [], "mid-stream loss that says 6 of 7"),
        (CUT_SHORT._replace(came=7), "openai", [], "mid-stream loss that says 7 of 700"),
        # Nothing had come: another server could have answered.
        (CUT_SHORT._replace(messages=0, came=0), "oip", [], "IN_BAND upstream_lost"),
        (Ended(10.0, 11.0, "502", "upstream_fault"), "openai", [], "502 upstream_fault"),
    ],
)
def test_a_failure_is_put_down_to_its_cause(ended, front, downs, cause):
    assert cause_of(outcome(ended, front), downs) == cause


def run(**changes):
    samples = [Sample(float(at), {0: 200.0}, {0: 40}) for at in range(40)]
    kept = Run(
        1, 0.0, 60.0, [outcome(WELL)] * 100, [], [], samples, [End(100.0, 25.0, ())]
    )  # fmt: skip
    return kept._replace(**changes)


def test_a_run_without_a_fault_breaks_nothing():
    assert breaches(run()) == []
    assert breaches(run(outcomes=[outcome(CUT_SHORT)])) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"outcomes": [outcome(TORN_AT_11)] * 3}, "3 requests lost: TORN"),
        ({"faults": [Fault("SIGSTOP", "server 1", 0.0, 9.0, 5.0)]}, "traffic left after 5.0 s"),
        ({"ends": [End(100.0, 31.0, ())]}, "31 retries of 100"),
        ({"ends": [End(100.0, 0.0, ("tasks: 90 left, 20 before",))]}, "tasks: 90 left"),
        (
            {"samples": [Sample(float(at), {0: 200.0 + at * 3}, {}) for at in range(40)]},
            "grew by 60 MiB",
        ),
    ],
)
def test_what_is_promised_and_not_kept_is_said(changes, says):
    (sentence,) = breaches(run(**changes))
    assert says in sentence
