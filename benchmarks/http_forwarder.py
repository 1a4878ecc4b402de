"""The floor: the least that an HTTP proxy of aiohttp's server and client does.

No routing, no parsing, no accounting: every request goes to one upstream, and the answer back as it
comes. On uvloop, or on asyncio's own loop.

    python -m benchmarks.http_forwarder --listen 18000 --upstream 127.0.0.1:18001 --loop asyncio
"""

from __future__ import annotations

import argparse
import asyncio
import logging

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from benchmarks.loops import run

_HOP_BY_HOP = ("host", "content-length", "transfer-encoding", "connection", "keep-alive")


def _fields(fields: CIMultiDict[str]) -> CIMultiDict[str]:
    kept = CIMultiDict(fields)
    for name in _HOP_BY_HOP:
        kept.popall(name, None)
    return kept


async def serve(listen: int, upstream: str) -> None:
    """Relay 127.0.0.1:``listen`` to ``upstream`` until the process is ended."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:

        async def relay(request: web.BaseRequest) -> web.StreamResponse:
            async with session.request(
                request.method,
                f"http://{upstream}{request.raw_path}",
                headers=_fields(CIMultiDict(request.headers)),
                data=await request.read(),
            ) as answer:
                fields = _fields(CIMultiDict(answer.headers))
                if answer.content_length is not None:
                    return web.Response(
                        status=answer.status, headers=fields, body=await answer.read()
                    )
                response = web.StreamResponse(status=answer.status, headers=fields)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response

        server = web.Server(relay, access_log=None, logger=logging.getLogger("quiet"))
        runner = web.ServerRunner(server)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", listen, backlog=1024).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--upstream", required=True, help="HOST:PORT of the model server")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    wanted = parser.parse_args()
    run(serve(wanted.listen, wanted.upstream), plain=wanted.loop == "asyncio")
