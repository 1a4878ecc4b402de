"""Callers over either front, and what became of their requests, in the same words."""

import asyncio
import contextlib
import itertools
import json
import math
from collections import Counter
from typing import NamedTuple

import aiohttp
import grpc

from tests.e2e.faults.fleet import model
from tests.e2e.harness import PATIENCE_S, QUICK, SERVICE, answers, ask, metadata_of

OK, IN_BAND, TORN = "OK", "IN_BAND", "TORN"
CHAT = "/v1/chat/completions"
# The emulator's, of a prompt's text.
BYTES_PER_TOKEN = 4


class Ended(NamedTuple):
    """One request, with times of the loop's clock.

    ``status``: OK where it was answered well, IN_BAND where an error came in the stream, TORN where
    the connection ended without any word, else the code. ``told``: the error's words. ``place``:
    who answered. ``messages``: of a stream, before it ended. ``came``: how far an error in the
    stream says that the answer came: messages over gRPC, bytes over HTTP.
    """

    sent_at: float
    ended_at: float
    status: str
    reason: str = ""
    place: str = ""
    messages: int = 0
    told: str = ""
    came: int = 0
    seen_bytes: int = 0

    @property
    def took_s(self):
        return self.ended_at - self.sent_at


class Seen:
    """How much of a stream has come so far."""

    def __init__(self):
        self.messages = 0
        self.bytes = 0


class OipCaller:
    """Over gRPC; a connection of its own."""

    front = "oip"

    def __init__(self, channel):
        self._unary = channel.unary_unary(SERVICE + "ModelInfer")
        self._stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
        self._numbers = itertools.count()

    async def whole(self, pair, *, tokens=4, prompt=8, timeout=PATIENCE_S, **headers):
        """One request with one answer."""
        payload = self._ask(pair, tokens, prompt)
        loop = asyncio.get_running_loop()
        sent = loop.time()
        call = self._unary(payload, metadata=metadata_of(headers), timeout=timeout)
        try:
            await call
            trailers = dict(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            return self._failed(sent, loop.time(), error)
        return Ended(sent, loop.time(), OK, place=_place(trailers["x-carbon"]))

    async def stream(self, pair, seen=None, *, tokens=4, prompt=8, timeout=PATIENCE_S, **headers):
        """One request whose answer is streamed; ``seen`` follows it."""
        seen = seen or Seen()
        payload = self._ask(pair, tokens, prompt)
        loop = asyncio.get_running_loop()
        sent = loop.time()
        call = self._stream(iter([payload]), metadata=metadata_of(headers), timeout=timeout)
        try:
            async for message in call:
                (answer,) = answers([message])
                if answer.error_message:
                    said = answer.infer_response.parameters
                    return Ended(
                        sent, loop.time(), IN_BAND, said["x-carbon-reason"].string_param,
                        messages=seen.messages, told=answer.error_message,
                        came=said["x-carbon-answers"].int64_param, seen_bytes=seen.bytes,
                    )  # fmt: skip
                seen.messages += 1
            trailers = dict(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            return self._failed(sent, loop.time(), error)._replace(messages=seen.messages)
        place = _place(trailers["x-carbon"])
        return Ended(sent, loop.time(), OK, place=place, messages=seen.messages)

    def _ask(self, pair, tokens, prompt):
        # As callers do, no two alike.
        one = f"r{next(self._numbers)}"
        return ask(model(pair, "oip"), one, output_tokens=tokens, input_tokens=prompt)

    @staticmethod
    def _failed(sent, now, error):
        reason = dict(error.trailing_metadata() or ()).get("x-carbon-reason", "")
        # What the client's own library says of a connection that broke.
        status = TORN if error.code().name == "UNAVAILABLE" and not reason else error.code().name
        return Ended(sent, now, status, reason, told=error.details() or "")


class HttpCaller:
    """Over OpenAI's HTTP; a pool of its own."""

    front = "openai"

    def __init__(self, session, address):
        self._session = session
        self._url = f"http://{address}{CHAT}"
        self._numbers = itertools.count()

    def _post(self, pair, tokens, prompt, timeout, streams, headers):
        # As callers do, no two alike.
        question = f"{next(self._numbers):x<{BYTES_PER_TOKEN * prompt}}"
        body = {
            "model": model(pair, "openai"), "stream": streams,
            "messages": [{"role": "user", "content": question}],
            "output_tokens": tokens, "max_tokens": max(tokens, 16),
        }  # fmt: skip
        return self._session.post(
            self._url, json=body, headers=dict(metadata_of(headers)),
            timeout=aiohttp.ClientTimeout(timeout),
        )  # fmt: skip

    async def whole(self, pair, *, tokens=4, prompt=8, timeout=PATIENCE_S, **headers):
        """One request with one answer."""
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            async with self._post(pair, tokens, prompt, timeout, False, headers) as reply:
                answer = await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return Ended(sent, loop.time(), TORN, type(error).__name__, told=str(error))
        if reply.status != 200:
            return Ended(sent, loop.time(), str(reply.status), *_said(answer))
        return Ended(sent, loop.time(), OK, place=_place(reply.headers["x-carbon"]))

    async def stream(self, pair, seen=None, *, tokens=4, prompt=8, timeout=PATIENCE_S, **headers):
        """One request whose answer is streamed; ``seen`` follows it."""
        seen = seen or Seen()
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            async with self._post(pair, tokens, prompt, timeout, True, headers) as reply:
                if reply.status != 200:
                    answer = await reply.read()
                    return Ended(sent, loop.time(), str(reply.status), *_said(answer))
                return await self._events(reply, seen, sent)
        except (aiohttp.ClientError, TimeoutError) as error:
            ended = Ended(sent, loop.time(), TORN, type(error).__name__, told=str(error))
            return ended._replace(messages=seen.messages)

    async def _events(self, reply, seen, sent):
        loop = asyncio.get_running_loop()
        place = _place(reply.headers["x-carbon"])
        async for line in reply.content:
            if line.startswith(b"data: [DONE]"):
                await reply.content.read()
                return Ended(sent, loop.time(), OK, place=place, messages=seen.messages)
            if line.startswith(b"data: {") and b'"error"' in line:
                reason, _, _, told = _said(line[6:])
                came = int(told.rpartition("(after ")[2].partition(" ")[0])
                return Ended(
                    sent, loop.time(), IN_BAND, reason, messages=seen.messages, told=told,
                    came=came, seen_bytes=seen.bytes,
                )  # fmt: skip
            seen.bytes += len(line)
            seen.messages += line.startswith(b"data: {")
        return Ended(sent, loop.time(), TORN, messages=seen.messages)


def _said(answer):
    """(reason, place, messages, words) of an error's body."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        error = json.loads(answer)["error"]
        return str(error.get("code")), "", 0, str(error.get("message"))
    return "", "", 0, answer.decode(errors="replace")[:200]


def _place(field):
    return field.partition('endpoint="')[2].partition('"')[0]


@contextlib.asynccontextmanager
async def callers(gateway):
    """One over each front."""
    async with caller(gateway, "oip") as oip, caller(gateway, "openai") as http:
        yield oip, http


@contextlib.asynccontextmanager
async def caller(gateway, front):
    """A caller of a running gateway over this front."""
    if front == "oip":
        async with grpc.aio.insecure_channel(gateway.address, options=QUICK) as channel:
            yield OipCaller(channel)
    else:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield HttpCaller(session, gateway.config["server"]["http"])


class Load:
    """Requests at their own times, whatever came of those before."""

    def __init__(self, callee, pair, *, streamed=False, **asked):
        self.front = callee.front
        self._send = callee.stream if streamed else callee.whole
        self._pair, self._asked = pair, asked
        self.ended = []

    async def one(self):
        self.ended.append(await self._send(self._pair, **self._asked))

    async def send(self, count, pause_s=0.01, at_half=None):
        """``count`` requests; ``at_half`` is called, or awaited, when half of them are on their
        way. Returns when all have ended."""
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                if at_half is not None and number == count // 2:
                    done = at_half()
                    if done is not None:
                        await done
                group.create_task(self.one())
                await asyncio.sleep(pause_s)  # spreads them; nothing is waited for

    async def until(self, stop, pause_s=0.02):
        """Requests until the event ``stop`` is set; returns when all have ended."""
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self.one())
                await asyncio.sleep(pause_s)

    @property
    def lost(self):
        return [one for one in self.ended if one.status != OK]

    @property
    def places(self):
        return Counter(one.place for one in self.ended if one.status == OK)

    def sent_after(self, at):
        """Those sent later than this time of the loop."""
        return [one for one in self.ended if one.sent_at > at]

    def quantile_s(self, share, after=-math.inf, before=math.inf):
        """That so many took less, of those sent between two times of the loop."""
        took = sorted(one.took_s for one in self.ended if after < one.sent_at < before)
        return took[int(share * (len(took) - 1))]
