"""What the HTTP benchmarks send and are answered: chats in OpenAI's shape."""

from __future__ import annotations

import json

MODEL = "chat"
CHAT = "/v1/chat/completions"
EVENTS = 200  # of one streamed answer, each a write
PACE_S = 0.004  # between them: 250 tokens a second

_ASKED = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Which grid is the greenest just now? " * 3}],
    "max_tokens": 64,
}
UNARY = json.dumps(_ASKED).encode()
STREAM = json.dumps({**_ASKED, "stream": True}).encode()
STREAMS = b'"stream": true'  # tells one from the other
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"chat","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"The one with wind."},"finish_reason":'
    b'"stop"}],"usage":{"prompt_tokens":31,"completion_tokens":5,"total_tokens":36}}'
)
MODELS = b'{"object":"list","data":[{"id":"chat","object":"model"}]}'
# Each of them says something else: LiteLLM ends a stream that repeats itself.
STREAMED = [
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"chat"'
    b',"choices":[{"index":0,"delta":{"content":" %03d"},"finish_reason":null}]}\n\n' % number
    for number in range(EVENTS)
]
LAST_EVENTS = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"chat"'
    b',"choices":[],"usage":{"prompt_tokens":31,"completion_tokens":200,"total_tokens":231}}\n\n'
    b"data: [DONE]\n\n"
)
