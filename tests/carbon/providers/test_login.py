"""One login for all who need a token, and one failure for all who waited for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router.carbon.providers.login import TokenLogin
from router.errors import ProviderAnswerError, ProviderRefusedError, ProviderUnavailableError
from router.trust.secrets import Secret
from tests.carbon.http_support import StubHttp

NOW = 1_657_843_200.0
PASSWORD = "wt-pa55word-7d31"


class SlowHttp(StubHttp):
    """Waits for ``go`` before each answer."""

    def __init__(self, found: Any) -> None:
        super().__init__(lambda _: found)
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def get_json(self, path: str, **named: Any) -> Any:
        self.entered.set()
        await self.go.wait()
        return await super().get_json(path, **named)


def login(http: StubHttp) -> TokenLogin:
    return TokenLogin(http, "watttime", "me", Secret(PASSWORD))


async def test_a_token_serves_until_three_minutes_before_it_ends() -> None:
    tokens = iter(["one", "two"])
    http = StubHttp(lambda _: {"token": next(tokens)})
    made = login(http)
    seen = [(await made.token(NOW + minute * 60.0)).reveal() for minute in (0, 10, 26.9, 27, 50)]
    assert seen == ["one"] * 3 + ["two"] * 2
    assert http.asked[0].path == "/login" and http.asked[0].auth == ("me", PASSWORD)


async def test_a_clock_that_stepped_back_does_not_make_a_token_eternal() -> None:
    tokens = iter(["one", "two"])
    made = login(StubHttp(lambda _: {"token": next(tokens)}))
    assert (await made.token(NOW)).reveal() == "one"
    assert (await made.token(NOW - 86_400.0)).reveal() == "two"


async def test_a_refused_token_is_renewed_by_one_of_all_whom_it_was_refused() -> None:
    tokens = iter(["one", "two"])
    http = StubHttp(lambda _: {"token": next(tokens)})
    made = login(http)
    old = await made.token(NOW)
    renewed = await asyncio.gather(*(made.token(NOW, refused=old) for _ in range(9)))
    assert {token.reveal() for token in renewed} == {"two"} and len(http.asked) == 2


@pytest.mark.parametrize("failing", [False, True])
async def test_all_who_wait_share_one_login_and_its_failure(failing: bool) -> None:
    http = SlowHttp(ProviderUnavailableError("down") if failing else {"token": "one"})
    made = login(http)
    async with asyncio.timeout(10):
        waiting = asyncio.gather(*(made.token(NOW) for _ in range(20)), return_exceptions=True)
        await http.entered.wait()
        http.go.set()
        found = await waiting
    assert len(http.asked) == 1
    assert all(isinstance(f, ProviderUnavailableError) is failing for f in found)


async def test_a_refused_login_rests_for_five_minutes_and_another_failure_does_not() -> None:
    http = StubHttp(lambda _: ProviderRefusedError("wrong password", 401))
    made = login(http)
    for later, logins in ((0.0, 1), (100.0, 1), (299.0, 1), (301.0, 2)):
        with pytest.raises(ProviderRefusedError, match="wrong password"):
            await made.token(NOW + later)
        assert len(http.asked) == logins
    http = StubHttp(lambda _: ProviderUnavailableError("down"))
    made = login(http)
    for logins in (1, 2):
        with pytest.raises(ProviderUnavailableError):
            await made.token(NOW)
        assert len(http.asked) == logins


@pytest.mark.parametrize("failed_before", [False, True])
async def test_a_login_that_was_cancelled_is_made_again_by_the_next(failed_before: bool) -> None:
    http = SlowHttp(ProviderUnavailableError("down"))
    made = login(http)
    if failed_before:
        http.go.set()
        with pytest.raises(ProviderUnavailableError):
            await made.token(NOW)
        http.entered.clear()
        http.go.clear()
    http.answer = lambda _: {"token": "one"}
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        first = group.create_task(made.token(NOW))
        second = group.create_task(made.token(NOW))
        await http.entered.wait()
        first.cancel()
        http.go.set()
        assert (await second).reveal() == "one"
    assert first.cancelled() and len(http.asked) == 1 + failed_before


@pytest.mark.parametrize("body", [None, [], {}, {"token": ""}, {"token": 5}, {"token": "a\nb"}])
async def test_an_answer_without_a_token(body: Any) -> None:
    with pytest.raises(ProviderAnswerError, match="watttime login"):
        await login(StubHttp(lambda _: body)).token(NOW)
