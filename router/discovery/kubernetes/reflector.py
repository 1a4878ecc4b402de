"""A collection of the API server, kept as it is there: listed once, then watched.

As client-go's reflector does it: a watch goes on from the version that the list, the last event or
a bookmark named; where that version is gone (410) the collection is listed anew, and what went
meanwhile goes. What was known stays through every failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from router.contract import Clock, Rng
from router.discovery.kubernetes.cluster import ClusterError

PAUSE_S: Final = (0.5, 30.0)
WATCH_S: Final = 240.0
# A watch that lasted as long, or told of anything, was in order.
_WELL_S: Final = 5.0
_PAGE: Final = 500
_MAX_PAGES: Final = 200
MAX_OBJECTS: Final = 50_000
_BREAKS: Final = 3
_GONE: Final = 410
_FORBIDDEN: Final = 403

_Kept = TypeVar("_Kept")


class ResourceApi(Protocol):
    """`router.discovery.kubernetes.cluster.Cluster`."""

    async def page(self, path: str, query: Mapping[str, str], accept: str) -> dict[str, Any]:
        """One page of a list."""
        ...

    def events(
        self, path: str, query: Mapping[str, str], accept: str, timeout_s: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Events of a watch; the first is empty, and says that it stands."""
        ...


class Reflector(Generic[_Kept]):
    """``objects``: by name, what is kept of each. ``is_synced``: whether all were listed once;
    ``trouble``: why they may be old, "" where they are not."""

    def __init__(
        self,
        api: ResourceApi,
        path: str,
        query: Mapping[str, str],
        keep: Callable[[Mapping[str, Any]], _Kept | None],
        changed: Callable[[], None],
        clock: Clock,
        rng: Rng,
        metadata_only: bool = False,
    ) -> None:
        """``keep``: what is wanted of an object, None where it counts for nothing; ``changed``:
        told of every change of the three. ``metadata_only``: nothing else of objects is wanted."""
        self._api = api
        self._path = path
        self._query = dict(query)
        self._keep = keep
        self._changed = changed
        self._clock = clock
        self._rng = rng
        kind = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"
        self._list_as = kind.format("List") if metadata_only else "application/json"
        self._watch_as = kind.format("") if metadata_only else "application/json"
        self.objects: dict[str, _Kept] = {}
        self.is_synced = False
        self.trouble = ""
        self._version = ""
        # Whether the watch under way was accepted, and told of anything; how many in a row broke
        # before they did.
        self._stands = self._told_any = False
        self._breaks = 0

    async def run(self) -> None:
        """List and watch, for ever; ends only by being cancelled."""
        pause_s = PAUSE_S[0]
        while True:
            self._told_any, self._stands, began = False, False, self._clock.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except ClusterError as error:
                # Servers hang up now and then; another watch goes on where this one ended.
                self._breaks = self._breaks + 1 if self._stands and not self._told_any else 0
                if error.status == _GONE:
                    self._version = ""
                elif not self._stands or self._breaks > _BREAKS:
                    self._fail(error)
            else:
                self._breaks = 0
            if self._told_any or self._clock.monotonic() - began >= _WELL_S:
                pause_s = PAUSE_S[0]
            await asyncio.sleep(pause_s * (0.5 + self._rng.random()))
            pause_s = min(2.0 * pause_s, PAUSE_S[1])

    async def _list(self) -> None:
        objects: dict[str, _Kept] = {}
        query = {**self._query, "limit": str(_PAGE)}
        for _ in range(_MAX_PAGES):
            page = await self._api.page(self._path, query, self._list_as)
            items = page.get("items")
            if items is not None and not isinstance(items, list):
                raise ClusterError(f"{self._path}: items are no list")
            for item in items or ():
                self._put(objects, item)
            told = page.get("metadata")
            about = told if isinstance(told, dict) else {}
            if not about.get("continue"):
                break
            query["continue"] = str(about["continue"])
        else:
            raise ClusterError(f"{self._path}: over {_MAX_PAGES} pages")
        self._version = str(about.get("resourceVersion", ""))
        self.objects, self.is_synced, self.trouble = objects, True, ""
        self._changed()

    async def _watch(self) -> None:
        timeout_s = WATCH_S * (0.75 + 0.5 * self._rng.random())
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(timeout_s)),
        }
        async for event in self._api.events(self._path, query, self._watch_as, timeout_s):
            self._stands = True
            if event:
                self._take(event)
            elif self.trouble and not self._breaks:
                self.trouble = ""
                self._changed()

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, item = event.get("type"), event.get("object")
        if not isinstance(item, dict):
            raise ClusterError(f"{self._path}: an event without an object")
        if kind == "ERROR":
            code = item.get("code")
            raise ClusterError(
                f"{self._path}: {code} {str(item.get('message', ''))[:300]}",
                code if isinstance(code, int) else 0,
            )
        about = item.get("metadata")
        about = about if isinstance(about, dict) else {}
        changed = bool(self.trouble)
        if kind in ("ADDED", "MODIFIED"):
            changed |= self._put(self.objects, item)
        elif kind == "DELETED":
            changed |= self.objects.pop(str(about.get("name", "")), None) is not None
        elif kind != "BOOKMARK":
            # Of a later API; what it is about is not known.
            return
        self._version = str(about.get("resourceVersion", "")) or self._version
        self._told_any = True
        self.trouble = ""
        # Most events are of what nobody here looks at.
        if changed:
            self._changed()

    def _put(self, objects: dict[str, _Kept], item: Any) -> bool:
        """Whether what is kept is another thing now."""
        about = item.get("metadata") if isinstance(item, dict) else None
        name = about.get("name") if isinstance(about, dict) else None
        if not isinstance(name, str):
            return False
        kept, before = self._keep(item), objects.get(name)
        if kept is None:
            objects.pop(name, None)
        elif before is not None or len(objects) < MAX_OBJECTS:
            objects[name] = kept
        else:
            # Less than all would be taken for all.
            raise ClusterError(
                f"{self._path}: over {MAX_OBJECTS:,} objects, too many to keep; narrow what is"
                " watched by a namespace or a selector"
            )
        return kept != before

    def _fail(self, error: ClusterError) -> None:
        why = str(error)
        if error.status == _FORBIDDEN:
            what = self._path.rpartition("/")[2]
            why = f"{why}; a Role that may list and watch {what} is missing (discovery.rbac)"
        if why != self.trouble:
            self.trouble = why
            self._changed()
