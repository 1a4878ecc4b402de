"""Commands about one receipt: receipt verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import FAILED, AsJson

app = typer.Typer()
receipt = typer.Typer(help="One request's receipt.", no_args_is_help=True)
app.add_typer(receipt, name="receipt")


@receipt.callback()
def _apart() -> None:
    """A name of its own for each command, though there is one."""


@receipt.command("verify")
def verify(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="What /v1/carbon/receipts/{id} answered; - for standard input."
        ),
    ],
    keys: Annotated[
        Path, typer.Option(help="What /v1/carbon/keys answered, or public keys in PEM.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check a signed receipt: its signature, and its figures. 1: something does not hold."""
    import json
    import sys

    from router.operator.receipt_checking import check_receipt
    from router.trust.jws import read_keys

    body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    found = check_receipt(body, read_keys(keys.read_bytes()))
    if as_json:
        print(json.dumps({**found._asdict(), "holds": not found.failed}, indent=2))
    else:
        from router.operator.show.caller_names import shown_text

        said = (("holds", found.held), ("FAILS", found.failed), ("not told", found.unknown))
        for word, lines in said:
            for line in lines:
                typer.echo(f"{word:>8}  {shown_text(line)}")
    if found.failed:
        raise typer.Exit(FAILED)
