"""An API server of Kubernetes as far as lists and watches go, over real HTTP, with its faults.

As https://kubernetes.io/docs/reference/using-api/api-concepts/ has them: versions of the whole
store, pages with `continue`, watches from a version, bookmarks, 410 for a compacted version.
"""

import asyncio
import contextlib
import json

from aiohttp import web

TOKEN = "of-the-service-account"


class FakeCluster:
    """``refuse``: status by the last part of a path; ``chunk``: bytes that a watch sends at a time;
    ``gone_as_event``: whether 410 comes with an event, as it may; ``asked``: every (path, query,
    accept)."""

    def __init__(self):
        self.version = 100
        self.objects = {}
        self.log = []
        self.oldest = 0
        self.refuse = {}
        self.chunk = 0
        self.gone_as_event = False
        self.garbage = b""
        self.asked = []
        self.token = TOKEN
        self._moved = asyncio.Condition()
        self._connections = set()
        self._runner = None

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_):
        self.hang_up()
        await self._runner.cleanup()

    def kubeconfig(self, folder):
        """A file by which it is reached."""
        path = folder / "kubeconfig"
        cluster = {"server": f"http://127.0.0.1:{self.port}"}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "here",
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": self.token}}],
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )  # fmt: skip
        return path

    async def put(self, path, *objects):
        """Let a collection hold these, by name, and no others."""
        wanted = {one["metadata"]["name"]: one for one in objects}
        there = self.objects.setdefault(path, {})
        for name in [*there]:
            if name not in wanted:
                await self._event("DELETED", path, there.pop(name))
        for name, one in wanted.items():
            before = there.get(name)
            if before is None or {**before, "metadata": None} != {**one, "metadata": None}:
                there[name] = one
                await self._event("MODIFIED" if before else "ADDED", path, one)

    async def _event(self, kind, path, one):
        self.version += 1
        one["metadata"] = {**one["metadata"], "resourceVersion": str(self.version)}
        async with self._moved:
            self.log.append((self.version, kind, path, json.loads(json.dumps(one))))
            self._moved.notify_all()

    async def bookmark(self):
        """Tell every watch of a version, as time goes by."""
        self.version += 1
        async with self._moved:
            self.log.append((self.version, "BOOKMARK", None, None))
            self._moved.notify_all()

    def compact(self):
        """Forget every version but the present one."""
        self.oldest = self.version
        self.log.clear()

    def hang_up(self):
        """Break every connection."""
        for transport in list(self._connections):
            transport.abort()

    def asks(self, part, watching):
        """Queries of those that were asked of a collection."""
        mine = [query for path, query, _ in self.asked if path.endswith(part)]
        return [query for query in mine if ("watch" in query) is watching]

    async def _answer(self, request):
        path, query = "/" + request.match_info["path"], dict(request.query)
        self.asked.append((path, query, request.headers.get("Accept", "")))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        code = self.refuse.get(path.rpartition("/")[2])
        if code is not None:
            return _status(code, f"the server says {code}")
        self._connections.add(request.transport)
        try:
            if query.get("watch"):
                return await self._watch(request, path, query)
            return self._list(path, query)
        finally:
            self._connections.discard(request.transport)

    def _selected(self, path, query):
        return [one for one in self.objects.get(path, {}).values() if _matches(one, query)]

    def _list(self, path, query):
        items = sorted(self._selected(path, query), key=lambda one: one["metadata"]["name"])
        first, limit = int(query.get("continue", "0")), int(query.get("limit", "500"))
        about = {"resourceVersion": str(self.version)}
        if first + limit < len(items):
            about["continue"] = str(first + limit)
        return web.json_response(
            {"kind": "List", "metadata": about, "items": items[first : first + limit]}
        )

    async def _watch(self, request, path, query):
        at = int(query["resourceVersion"])
        gone = at < self.oldest
        if gone and not self.gone_as_event:
            return _status(410, "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if gone:
            await self._send(response, "ERROR", _failure(410, "too old resource version"))
            return response
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(query["timeoutSeconds"])):
                await self._stream(response, path, query, at)
        return response

    async def _stream(self, response, path, query, at):
        known = {one["metadata"]["name"] for one in self._selected(path, query)}
        while True:
            async with self._moved:
                while not (news := [one for one in self.log if one[0] > at]):
                    await self._moved.wait()
            for version, kind, where, one in news:
                at = version
                if kind == "BOOKMARK":
                    if query.get("allowWatchBookmarks") == "true":
                        about = {"metadata": {"resourceVersion": str(version)}}
                        await self._send(response, kind, about)
                elif where == path and (_matches(one, query) or one["metadata"]["name"] in known):
                    known.add(one["metadata"]["name"])
                    await self._send(response, kind, one)
            if self.garbage:
                garbage, self.garbage = self.garbage, b""
                await response.write(garbage)

    async def _send(self, response, kind, one):
        line = json.dumps({"type": kind, "object": one}).encode() + b"\n"
        step = self.chunk or len(line)
        for start in range(0, len(line), step):
            await response.write(line[start : start + step])


def _matches(one, query):
    about = one["metadata"]
    for pair in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = pair.partition("=")
        if about.get("labels", {}).get(key) != value:
            return False
    name = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return not name or about["name"] == name


def _failure(code, message):
    return {"kind": "Status", "status": "Failure", "code": code, "message": message}


def _status(code, message):
    return web.json_response(_failure(code, message), status=code)


# Objects.

SLICES = "/apis/discovery.k8s.io/v1/namespaces/inference/endpointslices"
POOLS = "/apis/inference.networking.k8s.io/v1/namespaces/inference/inferencepools"
PODS = "/api/v1/namespaces/inference/pods"
NODES = "/api/v1/nodes"


def endpoint_slice(name, *endpoints, service="vllm", ports=(("http", 8000),), family="IPv4"):
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": [{"name": port, "port": number} for port, number in ports],
        "endpoints": list(endpoints),
    }


def slice_endpoint(pod, host, node="node-a", zone="", **conditions):
    made = {
        "addresses": [host], "conditions": {"ready": True, **conditions}, "nodeName": node,
        "targetRef": {"kind": "Pod", "name": pod},
    }  # fmt: skip
    return {**made, "zone": zone} if zone else made


def pod(name, host, node="node-a", ready=True, **labels):
    status = {"podIP": host, "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node},
        "status": status,
    }


def pool(name, *ports, **selector):
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": selector},
            "targetPorts": [{"number": port} for port in ports],
        },
    }


def node(name, region, zone):
    labels = {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}
    return {"metadata": {"name": name, "labels": {**labels, "other": "label"}}}
