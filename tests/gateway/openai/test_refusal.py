"""Every error of the tree has a status, a shape and a hint whether to ask again."""

import json

import pytest

from router import errors
from router.gateway.openai.refusal import NAMES, STATUSES, event_of, refusal_of
from router.http_api import BODY, CHAT, MESSAGES, OTHER, RESPONSES


def leaves(base=errors.CarbonRouterError):
    # Not those of modules that other tests happened to import.
    below = [
        one for one in base.__subclasses__() if one.__module__.startswith(f"{errors.__name__}.")
    ]
    return [leaf for one in below for leaf in leaves(one)] or [base]


# Nobody who calls waits for a provider or a store, or sees the operator's files or machine.
OURS = (
    errors.ConfigError | errors.DataError | errors.StateStoreError
    | errors.EnvoyPlaneError | errors.JudgeError | errors.HintNotTakenError
)  # fmt: skip
INTERNAL = [
    one for one in leaves() if issubclass(one, OURS) and one is not errors.MissingIntensityError
]


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.__name__)
def test_every_leaf_is_in_the_table_or_nobodys_business(leaf):
    known = any(cls in STATUSES for cls in leaf.__mro__)
    assert known != (leaf in INTERNAL)


@pytest.mark.parametrize("api", [CHAT, RESPONSES, OTHER, MESSAGES], ids=lambda api: api.name)
def test_what_is_not_in_the_tree_tells_nothing(api):
    ended = refusal_of(RuntimeError("secret"), api)
    assert ended.status == 500 and ended.reason == "internal"
    assert b"secret" not in ended.body and b"internal error" in ended.body
    assert b"secret" not in event_of(RuntimeError("secret"), api, "after 3 bytes")


def test_the_operators_own_errors_tell_nothing_either():
    ended = refusal_of(errors.MixedBasisError("in /etc/fleet.yaml"), CHAT)
    assert ended.status == 500 and b"fleet" not in ended.body
    assert ended.reason == errors.MixedBasisError.reason


@pytest.mark.parametrize(
    ("error", "retried", "hints"),
    [
        (errors.ShedError("", 0.25), 0, {"retry-after-ms": "250", "retry-after": "1"}),
        (
            errors.ShedError("", 0.25), 1,
            {"retry-after-ms": "250", "retry-after": "1", "x-should-retry": "false"},
        ),
        (errors.ShedError(""), 0, {"x-should-retry": "false"}),
        (
            errors.CarbonBudgetError("", 7200.5), 0,
            {"retry-after-ms": "7200500", "retry-after": "7201", "x-should-retry": "false"},
        ),
        (
            errors.CarbonBudgetHeldError("", 1.0), 0,
            {"retry-after-ms": "1000", "retry-after": "1"},
        ),
        (errors.BudgetImpossibleError(""), 0, {"x-should-retry": "false"}),
        (errors.PolicyExcludesError(""), 0, {}),
        (errors.UpstreamBusyError("", retry_after_s=2.0), 3,
         {"retry-after-ms": "2000", "retry-after": "2"}),
        (errors.UpstreamBusyError("", retry_after_s=float("inf")), 0, {}),
        (errors.UpstreamLostError(""), 0, {}),
    ],
)  # fmt: skip
def test_when_to_ask_again(error, retried, hints):
    headers = refusal_of(error, CHAT, retried=retried).headers
    assert {key: value for key, value in headers.items() if key != "content-type"} == hints


def test_a_failure_upstream_bears_the_id_that_is_in_the_log():
    error = errors.UpstreamLostError("gone")
    error.decision_id, error.attempts = "gw-7", 2
    assert refusal_of(error, CHAT).headers["x-carbon"] == 'id="gw-7", attempts=2'


def test_a_servers_own_words_pass_and_its_silence_is_filled():
    said = b'{"error":{"message":"no"}}'
    fields = {
        "content-type": "application/problem+json", "content-encoding": "gzip",
        "x-request-id": "r-1",
    }  # fmt: skip
    trailers = (*fields.items(), ("x-other", "1"), (BODY, said))
    ended = refusal_of(errors.UpstreamInternalError("no", status="500", trailers=trailers), CHAT)
    assert (ended.status, ended.body) == (500, said)
    assert fields.items() <= ended.headers.items() and "x-other" not in ended.headers
    silent = refusal_of(errors.UpstreamDeniedError("no such model", status="404"), CHAT)
    assert silent.status == 404
    assert json.loads(silent.body)["error"]["code"] == "upstream_denied"


def test_statuses_are_words_that_metrics_know():
    assert {str(status) for status in STATUSES.values()} <= NAMES


def test_events_of_each_api():
    error = errors.UpstreamLostError("gone")
    chat = json.loads(event_of(error, CHAT, "after 3 bytes").removeprefix(b"data: "))
    assert chat["error"]["code"] == "upstream_lost"
    assert chat["error"]["message"] == "gone (after 3 bytes)"
    head, _, data = event_of(error, MESSAGES, "after 3 bytes").partition(b"\ndata: ")
    assert head == b"event: error" and json.loads(data)["error"]["type"] == "api_error"
    head, _, data = event_of(error, RESPONSES, "after 3 bytes").partition(b"\ndata: ")
    told = json.loads(data)
    assert (head, told["type"], told["code"]) == (b"event: error", "error", "upstream_lost")
