"""Commands about a queue of deferred work: queue ls, show, why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.options import AsJson, show
from router.errors import DataError

if TYPE_CHECKING:
    from router.deferral.seen import SeenBatch

app = typer.Typer()
queue = typer.Typer(help="Work that waits: batches, and why they do.", no_args_is_help=True)
app.add_typer(queue, name="queue")

Where = Annotated[
    Path,
    typer.Argument(
        metavar="WHERE",
        help="The folder of `deferral.dir`, or a gateway's configuration: for a queue in Redis.",
    ),
]
BatchId = Annotated[
    str,
    typer.Argument(metavar="BATCH", help="As callers know it: batch_..., msgbatch_... or resp_..."),
]
AnyBatch = Annotated[
    str, typer.Argument(metavar="[BATCH]", help="Only this one.", show_default="all")
]


@queue.command("ls")
def ls(
    where: Where,
    every: Annotated[bool, typer.Option("--all", help="Those, too, that have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """List batches: what of them is done, what waits, what it emitted and what waiting saved."""
    _tell(_seen(where, "", every), as_json)


@queue.command("show")
def show_one(where: Where, batch: BatchId, as_json: AsJson = False) -> None:
    """Show one batch, ended or not, and why of its lines those wait that do. 1: there is none."""
    found = _seen(where, batch, True)
    if as_json:
        _tell(found, as_json)
        return
    from router.operator.show.queue import render_batch

    show(render_batch(found[0]))


@queue.command("why")
def why(where: Where, batch: AnyBatch = "", as_json: AsJson = False) -> None:
    """Say why work waits, in the words of the gateway that planned it last."""
    found = _seen(where, batch, bool(batch))
    if as_json:
        _tell(found, as_json)
        return
    from router.operator.show.queue import render_reasons

    show(render_reasons(found))


def _seen(where: Path, batch: str, ended: bool) -> list[SeenBatch]:
    from router.app.deferral.looking import seen

    found = seen(where, batch, ended)
    if batch and not found:
        raise DataError(f"{where}: no batch {batch!r} is there; queue ls --all lists all")
    return found


def _tell(found: list[SeenBatch], as_json: bool) -> None:
    from router.operator.show.queue import batches_json, render_batches

    if as_json:
        print(batches_json(found))
    else:
        show(render_batches(found))
