"""The command line: parse, call, exit code. 0 done, 1 failed, 2 a wrong file or argument.

Rooms are imported inside the commands, so that ``--help`` and ``check`` stay quick.
"""

from __future__ import annotations

import router.cli.blas
import router.cli.grpc_lines  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from router import __version__
from router.cli import (
    calibrating,
    carbon,
    energy,
    gateway,
    keys,
    ledger,
    ledger_books,
    queue,
    receipt,
    replay,
    study,
    watching,
)
from router.cli.options import FAILED, WRONG
from router.errors import CarbonRouterError, ConfigError, TraceError

app = typer.Typer(
    name="carbon-router",
    help="Sends each inference request to the lowest-carbon endpoint that meets its budget.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"max_content_width": 120},
    rich_markup_mode=None,  # its import takes as long as all the rest of --help
    pretty_exceptions_enable=False,
)
for room in (
    gateway, keys, carbon, energy, calibrating, ledger, ledger_books, queue, receipt, replay,
    study, watching,
):  # fmt: skip
    app.add_typer(room.app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit. An error of the product is one short message on stderr."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except CarbonRouterError as error:
        print(f"{error.reason}:\n{_shown(error)}", file=sys.stderr)
        sys.exit(WRONG if isinstance(error, ConfigError | TraceError) else FAILED)
    except OSError as error:
        print(f"io: {_shown(error)}", file=sys.stderr)
        sys.exit(FAILED)


def _shown(error: Exception) -> str:
    """Names of files and of callers are in it: a terminal obeys none of them."""
    from router.operator.show.caller_names import shown_text

    return "\n".join(map(shown_text, str(error).split("\n")))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"carbon-router {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    pass
