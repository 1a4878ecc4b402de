"""What ``check --servers`` says of servers that answer, that do not, and that differ."""

import asyncio
import json

from router.operator.servers import server_findings
from tests.backends.oip.upstreams import unused
from tests.backends.openai.upstreams import http_upstream
from tests.config.samples import DELETE, write

MODEL = "llama-3.1-8b"


def configured(folder, address, context_tokens):
    return write(folder, {
        "endpoints/0/protocol": "openai",
        "endpoints/0/address": address,
        "endpoints/0/metrics": DELETE,
        "endpoints/0/models": [
            {"name": MODEL, "profile": "llama-3.1-8b@1xh100", "context_tokens": context_tokens},
            {"name": "unlisted", "profile": "llama-3.1-8b@1xh100"},
        ],
        "endpoints/1/protocol": "openai",
        "endpoints/1/address": unused().address,
        "server": {"http": "127.0.0.1:0"},
        "models/unlisted": {"input_tokens": 10, "output_tokens": 10, "output_tokens_p95": 20},
    })  # fmt: skip


async def findings(folder, server, tokens, context_tokens=4096):
    page = {"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": tokens}]}

    async def answer(_, context):
        context.reply(200, json.dumps(page).encode())

    server.unary = answer
    path = configured(folder, server.endpoint.address, context_tokens)
    return await asyncio.to_thread(server_findings, path)


async def test_each_endpoint_and_model_has_a_line(tmp_path):
    async with http_upstream() as server:
        found = await findings(tmp_path, server, 2048)
        first, model, unlisted, *others = found.notes
        assert first == f"west-0 ({server.endpoint.address}): ready"
        assert model == (
            f"west-0: {MODEL}: ready; context 2048 tokens by the server, shorter than the 4096 "
            "configured"
        )
        assert unlisted == (
            "west-0: unlisted: NOT SERVED, would not be sent any; context not told, no limit is "
            "held"
        )
        (line,) = (line for line in others if line.startswith("east-0"))
        assert line.endswith("cannot be reached")
        assert found.unusable == ["west-0 does not serve unlisted", "east-0 cannot be reached"]


async def test_whose_word_holds_for_a_context(tmp_path):
    async with http_upstream() as server:
        _, line, *_ = (await findings(tmp_path, server, 8192)).notes
        assert line.endswith("context 4096 tokens as configured (the server says 8192)")
        _, line, *_ = (await findings(tmp_path, server, 8192, None)).notes
        assert line.endswith("context 8192 tokens by the server")
        _, line, *_ = (await findings(tmp_path, server, None)).notes
        assert line.endswith("context 4096 tokens as configured")
