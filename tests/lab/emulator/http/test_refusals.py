import pytest

from router.http_api import Family
from router.lab.emulator.http.refusals import ErrorAnswer


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "BadRequestError", "invalid_request_error"),
        (404, "NotFoundError", "not_found_error"),
        (418, "BadRequestError", "invalid_request_error"),
        (429, "RateLimitError", "rate_limit_error"),
        (500, "InternalServerError", "api_error"),
        (529, "InternalServerError", "overloaded_error"),
    ],
)
def test_each_api_has_its_shape(status, openai, anthropic):
    refused = ErrorAnswer(status, "no", "model")
    error = {"message": "no", "type": openai, "param": "model", "code": status}
    assert refused.body(Family.OPENAI, "req_1") == {"error": error}
    body = refused.body(Family.ANTHROPIC, "req_1")
    assert body["type"] == "error" and body["request_id"] == "req_1"
    assert body["error"] == {"type": anthropic, "message": "no"}


def test_who_is_busy_says_when_to_come_back():
    assert ErrorAnswer(429, "busy").headers() == {"retry-after-ms": "200", "Retry-After": "1"}
    assert ErrorAnswer(503, "away").headers() == {}
