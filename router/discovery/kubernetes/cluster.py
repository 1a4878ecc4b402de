"""The API server of a cluster: pages of a list, and the events of a watch, as JSON.

How it is reached and who we are (service account, kubeconfig, plugins that make tokens) is
kubernetes_asyncio's; lists and watches are read here, since its own watch neither lists anew after
410 nor tells a refusal from a broken connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from router.errors import DiscoveryError

_CONNECT_S: Final = 10.0
_LIST_S: Final = 30.0
# Beyond the time after which the server itself ends a watch.
_LATE_S: Final = 30.0
_MAX_PAGE: Final = 32 * 1024 * 1024
_MAX_MESSAGE: Final = 300


class ClusterError(DiscoveryError):
    """The API server refuses, or cannot be reached. ``status``: of HTTP, 0 where there is none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """A connection to one API server; an async context manager."""

    def __init__(self, kubeconfig: Path | None, context: str = "") -> None:
        """``kubeconfig``: None inside a pod, whose service account counts."""
        self._kubeconfig = kubeconfig
        self._context = context
        self._client: Any = None
        self._opening = asyncio.Lock()
        # Whether the last token was refused.
        self._is_denied = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def page(self, path: str, query: Mapping[str, str], accept: str) -> dict[str, Any]:
        """One page of a list. Raises ClusterError."""
        try:
            async with asyncio.timeout(_LIST_S):
                response = await self._get(path, query, accept, _LIST_S)
                async with response:
                    await self._require_ok(response, path)
                    return _mapping(await _whole(response, path), path)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            raise ClusterError(f"{path}: {_words(error)}") from error

    async def events(
        self, path: str, query: Mapping[str, str], accept: str, timeout_s: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Events of a watch until the server ends it, as it should after ``timeout_s``; the first
        is empty, and says that the watch stands. Raises ClusterError."""
        try:
            response = await self._get(path, query, accept, timeout_s + _LATE_S)
            async with response:
                await self._require_ok(response, path)
                yield {}
                # Lines of up to 4 MiB: an object has 1.5 MiB at most where etcd is as it comes.
                async for line in response.content:
                    if line.strip():
                        yield _mapping(line, path)
        except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
            raise ClusterError(f"{path}: {_words(error)}") from error

    async def _get(
        self, path: str, query: Mapping[str, str], accept: str, silent_s: float
    ) -> aiohttp.ClientResponse:
        client = await self._opened()
        response: aiohttp.ClientResponse = await client.call_api(
            path,
            "GET",
            query_params=list(query.items()),
            header_params={"Accept": accept},
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_S, sock_read=silent_s
            ),
        )
        return response

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None or self._is_denied:
                self._client = await self._open()
                self._is_denied = False
            return self._client

    async def _open(self) -> Any:
        # Seconds of imports, in which requests go on.
        client, config = await asyncio.to_thread(_library)
        # What others are asking over stays open: a new token joins it.
        made = client.Configuration() if self._client is None else self._client.configuration
        try:
            if self._kubeconfig is None:
                config.load_incluster_config(client_configuration=made)
            else:
                await config.load_kube_config(
                    config_file=str(self._kubeconfig),
                    context=self._context or None,
                    client_configuration=made,
                    persist_config=False,
                )
        except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            where = self._kubeconfig or "the pod's service account"
            raise ClusterError(f"{where}: {_words(error)}") from error
        return self._client or client.ApiClient(made)

    async def _require_ok(self, response: aiohttp.ClientResponse, path: str) -> None:
        if response.status == 200:
            return
        if response.status == 401:
            # A file or a plugin may have another token by now.
            self._is_denied = True
        try:
            said = str(_mapping(await _whole(response, path), path).get("message", ""))
        except ClusterError:
            said = ""
        text = said or response.reason or ""
        raise ClusterError(
            f"{path}: {response.status} {text[:_MAX_MESSAGE]}".strip(), response.status
        )


def _library() -> tuple[Any, Any]:
    from kubernetes_asyncio import client, config

    return client, config


async def _whole(response: aiohttp.ClientResponse, path: str) -> bytearray:
    """A body. Raises ClusterError where it is longer than any should be."""
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > _MAX_PAGE:
            raise ClusterError(f"{path}: a page of over {_MAX_PAGE} bytes")
    return body


def _mapping(text: bytes | bytearray, path: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClusterError(f"{path}: not JSON, or cut off") from error
    if not isinstance(data, dict):
        raise ClusterError(f"{path}: not an object of JSON")
    return data


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:_MAX_MESSAGE]
