"""Streams as servers send them, in LF; one of each API."""

import json


def data(value, name=""):
    """One event."""
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def chunk(text, finish=None, **more):
    """One of OpenAI's chunks."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return data({"object": "chat.completion.chunk", "choices": [choice], **more})


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
USAGE_ALONE = data({"object": "chat.completion.chunk", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
ENERGY = b'{"energy_joules":1.5}'
SAID = [
    chunk("a"),
    b": ping\n\n",
    chunk("b: energy \n data: [DONE]"),
    chunk("", "stop", usage=None),
]
CHAT = [*SAID, USAGE_ALONE, b": energy %b\n\n" % ENERGY, DONE]

START = data({"type": "message_start", "message": {"usage": {"input_tokens": 9}}}, "message_start")
TEXT = data({"type": "content_block_delta", "delta": {"text": "a"}}, "content_block_delta")
DELTA = data({"type": "message_delta", "usage": {"output_tokens": 3}}, "message_delta")
STOP = data({"type": "message_stop"}, "message_stop")
MESSAGES = [START, TEXT, data({"type": "ping"}, "ping"), TEXT, DELTA, STOP]

CREATED = data({"response": {"usage": None}}, "response.created")
OUTPUT = data({"delta": "a"}, "response.output_text.delta")
COMPLETED = data(
    {"response": {"usage": {"input_tokens": 9, "output_tokens": 3}}}, "response.completed"
)
RESPONSES = [CREATED, OUTPUT, COMPLETED]
