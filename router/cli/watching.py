"""Commands that watch a running gateway through its admin port: top, tail."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import FAILED, AsJson

if TYPE_CHECKING:
    from router.operator.watching.connection import FeedConnection, FeedEvent
    from router.operator.watching.frame import GatewayGlance

app = typer.Typer()

_FIRST_TICKS = 4
_PIPE_COLUMNS = 120
_PIPE_LINES = 60
_REDRAWN_A_SECOND = 2

Address = Annotated[
    str, typer.Argument(metavar="ADMIN", help="Its `server.admin`: host:port, or a URL.")
]
KeyEnv = Annotated[
    str, typer.Option(help="Variable with the admin token, or a key with the role `control`.")
]
CaFile = Annotated[Path | None, typer.Option("--ca", help="PEM of whom to trust: speak TLS.")]
CertFile = Annotated[Path | None, typer.Option("--cert", help="PEM of a certificate to show.")]
CertKey = Annotated[Path | None, typer.Option("--cert-key", help="PEM of its key.")]


@app.command()
def top(
    address: Address = "127.0.0.1:9500",
    once: Annotated[bool, typer.Option("--once", help="One frame, then end.")] = False,
    as_json: AsJson = False,
    key_env: KeyEnv = "",
    ca: CaFile = None,
    cert: CertFile = None,
    cert_key: CertKey = None,
) -> None:
    """Regions by intensity, traffic, latency and grams of a running gateway, as they change."""
    with _Pipe():
        connection, title = _connect(address, key_env, ca, cert, cert_key)
        if as_json and not once:
            _stream_json(connection)
        elif once or as_json or not sys.stdout.isatty():
            _once(connection, title, as_json)
        else:
            _live(connection, title)


@app.command()
def tail(
    address: Address = "127.0.0.1:9500",
    tenant: Annotated[str, typer.Option(help="Only its decisions.")] = "",
    model: Annotated[str, typer.Option(help="Only those about it.")] = "",
    region: Annotated[str, typer.Option(help="Only those that went there.")] = "",
    reason: Annotated[
        str, typer.Option(help="Only those with it: of a refusal, a relaxed rung, or a flag.")
    ] = "",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many.")
    ] = None,
    as_json: AsJson = False,
    key_env: KeyEnv = "",
    ca: CaFile = None,
    cert: CertFile = None,
    cert_key: CertKey = None,
) -> None:
    """Decisions of a running gateway, a line each as they are answered; a sample of them."""
    with _Pipe():
        from router.operator.show.tail import decision_json, decision_line
        from router.operator.watching.connection import follow
        from router.operator.watching.lines import DecisionFilter, DecisionLines

        connection, title = _connect(address, key_env, ca, cert, cert_key)
        lines = DecisionLines(DecisionFilter(tenant, model, region, reason))
        shown = decision_json if as_json else decision_line
        left = [count]

        def take(event: FeedEvent) -> None:
            before = lines.has_settled
            for one in lines.take(event):
                _print(shown(one))
                if left[0] is not None:
                    left[0] -= 1
                    if left[0] <= 0:
                        raise _EnoughError
            if lines.has_settled and not before and lines.share < 1.0:
                _note(f"{title}: a sample, of about {lines.share:.1%} of decisions")

        follow(connection, take, _told_on(title), _rest)


class _EnoughError(Exception):
    """Who asked has all, or has gone; ``__cause__``: an error of its output, where it was that."""


def _print(text: str) -> None:
    # An error of the connection is another matter: that is made anew.
    try:
        print(text, flush=True)
    except OSError as error:
        raise _EnoughError from error


class _Pipe:
    """A reader that has gone, or somebody's Ctrl-C, ends a command without a word."""

    def __enter__(self) -> None:
        # A terminal that has not every character is no reason to fail.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if isinstance(error, _EnoughError):
            error = error.__cause__
            if error is None:
                return True
            if not isinstance(error, BrokenPipeError):
                raise error
        if isinstance(error, BrokenPipeError):
            # Python flushes once more at its end, into the same pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return True
        return isinstance(error, KeyboardInterrupt)


def _connect(
    address: str, key_env: str, ca: Path | None, cert: Path | None, cert_key: Path | None
) -> tuple[FeedConnection, str]:
    from router.operator.watching.connection import FeedConnection, target_of
    from router.trust.secrets import read_secret

    key = None
    if key_env:
        key = read_secret("--key-env", "", env=key_env, file=None, environ=os.environ)
    target = target_of(address, key, _context(ca, cert, cert_key))
    return FeedConnection(target), target.shown


def _context(ca: Path | None, cert: Path | None, cert_key: Path | None) -> Any:
    import ssl

    if ca is None and cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, cert_key)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"the certificates cannot be used: {error}") from None
    return context


def _once(connection: FeedConnection, title: str, as_json: bool) -> None:
    from rich.console import Console

    from router.operator.show.top import glance_json, render_glance
    from router.operator.watching.frame import FeedState

    state, ticks = FeedState(), 0
    for event in connection.events():
        if state.take(event):
            ticks += 1
            # Rates take two looks; who sees its own alone has none.
            tick = state.tick
            if tick is not None and (tick.rates or tick.own or ticks >= _FIRST_TICKS):
                break
    glance = state.glance()
    if glance is None:
        _note(f"{title}: the feed ended before its first tick")
        raise typer.Exit(FAILED)
    if as_json:
        print(glance_json(glance))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_COLUMNS, height=_PIPE_LINES)
    console.print(render_glance(glance, console.width, console.height, title))


def _stream_json(connection: FeedConnection) -> None:
    from router.operator.show.top import glance_json
    from router.operator.watching.connection import follow
    from router.operator.watching.frame import FeedState

    state = FeedState()

    def take(event: FeedEvent) -> None:
        if state.take(event) and (glance := state.glance()) is not None:
            _print(glance_json(glance))

    follow(connection, take, _told_on("feed"), _rest)


def _live(connection: FeedConnection, title: str) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from router.operator.show.top import plain, render_glance
    from router.operator.watching.connection import follow
    from router.operator.watching.frame import FeedState

    state, console, note = FeedState(), Console(), [""]
    # Drawn by a thread of its own: whole, or as before.
    latest: list[GatewayGlance | None] = [None]

    def frame() -> Any:
        glance = latest[0]
        if glance is None:
            return Text(plain(note[0] or f"{title}: waiting for its first tick"))
        return render_glance(glance, console.width, console.height, title, note[0])

    def take(event: FeedEvent) -> None:
        if state.take(event):
            latest[0] = state.glance()
            note[0] = ""

    def lost(why: str, pause_s: float) -> None:
        note[0] = f"lost ({why}), these figures are of before; again in {pause_s:g} s"

    with Live(get_renderable=frame, console=console, screen=True,
              refresh_per_second=_REDRAWN_A_SECOND, redirect_stderr=False):  # fmt: skip
        follow(connection, take, lost, _rest)


def _told_on(title: str) -> Any:
    return lambda why, pause_s: _note(f"{title}: lost ({why}), again in {pause_s:g} s")


def _note(text: str) -> None:
    from router.operator.show.top import plain

    print(plain(text), file=sys.stderr, flush=True)


def _rest(seconds: float) -> bool:
    threading.Event().wait(seconds)
    return True
