"""What somebody had of an answer that ended before its end counts against the limit."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from router.errors import RateLimitedError, UpstreamLostError
from router.gateway.cut_answers import settle_cut
from router.identity.limits import Limiter
from router.identity.principal import PrincipalLimits
from tests.gateway.openai.support import CHUNK, Routed, Script, serving
from tests.gateway.support import receipt, soon
from tests.identity.support import CHAT, access, held_key, key_text

LIMITED = replace(CHAT, limits=PrincipalLimits(tokens_per_min=600.0))
LEFT = asyncio.CancelledError()
GONE = ConnectionResetError()
LOST = UpstreamLostError("a: the connection broke")


@pytest.mark.parametrize(
    ("error", "pieces", "told", "taken"),
    [
        (LEFT, 300, None, 300.0),
        (GONE, 300, None, 300.0),
        (LEFT, 3, None, 100.0),
        (GONE, 3, None, 100.0),
        (LOST, 3, None, 3.0),
        (LOST, 300, None, 300.0),
        # Nothing came: a refusal takes nothing, and who left before that pays what was expected.
        (LOST, 0, None, 0.0),
        (LEFT, 0, None, 100.0),
    ],
)
def test_what_came_was_used(error, pieces, told, taken):
    """Of a limit of 600, with 100 expected."""
    limiter = Limiter(lambda: 100.0)
    use = limiter.begin(LIMITED)
    use.reserve(100.0)
    settle_cut(use, SimpleNamespace(receipt=told, pieces=pieces), 100.0, error)
    if error is not LEFT:
        use.give_back()
    use.end()
    rest = limiter.begin(LIMITED)
    rest.reserve(600.0 - taken)
    with pytest.raises(RateLimitedError):
        rest.reserve(1.0)


def test_what_its_receipt_tells_is_not_counted_again():
    limiter = Limiter(lambda: 100.0)
    use = limiter.begin(LIMITED)
    use.reserve(100.0)
    use.settle(50.0)
    settle_cut(use, SimpleNamespace(receipt=receipt(), pieces=300), 100.0, GONE)
    limiter.begin(LIMITED).reserve(550.0)


async def test_who_leaves_a_stream_has_used_what_it_was_told():
    """Over a socket: who goes before the last event does not have the answer for nothing."""
    gate = asyncio.Event()
    routed = Routed([CHUNK] * 700, gate=gate)
    key = key_text("limited")
    asks = {"model": "llama", "messages": [], "stream": True}
    headers = {"authorization": f"Bearer {key}"}
    async with serving(Script(stream=routed), access=access(held_key(key, LIMITED))) as front:
        url = front.url("/v1/chat/completions")
        answer = await front.client.post(url, json=asks, headers=headers)
        await soon(answer.content.readexactly(700 * len(CHUNK)))
        answer.close()
        await soon(routed.closed.wait())
        async with front.client.post(url, json=asks, headers=headers) as refused:
            assert refused.status == 429
            assert (await refused.json())["error"]["code"] == "rate_limited"
