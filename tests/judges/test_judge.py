"""Whoever an alias names is asked, and nobody about what is too long."""

import pytest

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.judges.judge import Judge
from router.model import HttpJudge, RulesJudge

ANSWER = b'{"choices": [{"message": {"content": "no idea"}}]}'
ASKED = JudgedAnswer("chat", "small", "/v1/chat/completions", b"{}", ANSWER)


class Stepped:
    """A clock that goes on by so much with each look."""

    def __init__(self, step_s=0.0):
        self.now, self.step_s = 0.0, step_s

    def __call__(self):
        self.now += self.step_s
        return self.now


def nobody():
    raise AssertionError("no session is needed")


async def test_rules_ask_nobody():
    judge = Judge(nobody, Stepped())
    assert await judge.accepts(RulesJudge(("no idea",)), ASKED, 5.0) is False
    assert await judge.accepts(RulesJudge(), ASKED, 5.0) is True


@pytest.mark.parametrize("rules", [RulesJudge(), HttpJudge("http://127.0.0.1:1/", 1.0)])
async def test_what_is_too_long_is_no_verdict(rules):
    asked = ASKED._replace(answer=ANSWER + b" " * 600_000)
    with pytest.raises(JudgeError, match="too many to be judged"):
        await Judge(nobody, Stepped()).accepts(rules, asked, 5.0)


async def test_why_an_answer_is_not_judged_is_in_the_log_once_a_minute(caplog):
    judge = Judge(nobody, Stepped(25.0))
    for _ in range(4):
        with pytest.raises(JudgeError):
            await judge.accepts(RulesJudge(), ASKED._replace(path="/v1/embeddings"), 5.0)
    first, second = caplog.records
    assert "nothing that rules could read" in first.message
    assert (first.alias, first.suppressed, second.suppressed) == ("chat", 0, 2)
