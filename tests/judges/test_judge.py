"""Whoever an alias names is asked, and nobody about what is too long."""

import pytest

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.judges.judge import Judge
from router.model import HttpJudge, RulesJudge

ANSWER = b'{"choices": [{"message": {"content": "no idea"}}]}'
ASKED = JudgedAnswer("chat", "small", "/v1/chat/completions", b"{}", ANSWER)


def nobody():
    raise AssertionError("no session is needed")


async def test_rules_ask_nobody():
    judge = Judge(nobody)
    assert await judge.accepts(RulesJudge(("no idea",)), ASKED, 5.0) is False
    assert await judge.accepts(RulesJudge(), ASKED, 5.0) is True


@pytest.mark.parametrize("rules", [RulesJudge(), HttpJudge("http://127.0.0.1:1/", 1.0)])
async def test_what_is_too_long_is_no_verdict(rules):
    asked = ASKED._replace(answer=ANSWER + b" " * 600_000)
    with pytest.raises(JudgeError, match="too many to be judged"):
        await Judge(nobody).accepts(rules, asked, 5.0)
