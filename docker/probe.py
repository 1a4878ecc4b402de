"""Whether the gateway of this container answers; one that has answered and hangs is killed.

    python probe.py [--attempts N] [--kill] [URL]

Without a URL that of the environment, PROBE_URL, else of plain HTTP. Ends with code 0 where one of
N attempts is answered with 200. With `--kill` everything in the container is killed where none is
though one was before, for compose restarts what ends and not what is unhealthy.

Python alone, for the image has no shell and no curl.
"""

from __future__ import annotations

import argparse
import os
import signal
import ssl
import time
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

URL = "http://127.0.0.1:9500/readyz"
ALIVE = Path("/tmp/alive")
PAUSE_S = 1.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def answers(url: str, within_s: float) -> bool:
    """Whether ``url``, of this very container, answers with 200.

    Its certificate is for the name that others call it by, so it is not asked for; nothing is sent.
    Raises ValueError for an address that is not of this container.
    """
    if urlsplit(url).hostname not in LOOPBACK:
        raise ValueError(f"{url}: a probe asks its own container alone")
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=unverified))
    try:
        with opener.open(url, timeout=within_s) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def probed(url: str, attempts: int, within_s: float) -> bool:
    """Whether one of so many attempts is answered."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(PAUSE_S)
        if answers(url, within_s):
            return True
    return False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default=os.environ.get("PROBE_URL", URL))
    parser.add_argument("--attempts", type=int, default=1)
    parser.add_argument("--within-s", type=float, default=2.0)
    parser.add_argument("--kill", action="store_true")
    given = parser.parse_args(arguments)
    if probed(given.url, given.attempts, given.within_s):
        if given.kill:
            ALIVE.touch()
        return 0
    if given.kill and ALIVE.exists():
        ALIVE.unlink()
        # Everything but process 1, which ends with its child and cannot be killed from here.
        os.kill(-1, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
