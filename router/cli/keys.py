"""Commands about keys of callers: key new, key ls, key revoke."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from router.cli.options import parse_utc, show

app = typer.Typer()
key = typer.Typer(help="Keys of callers: only their hashes are kept.", no_args_is_help=True)
app.add_typer(key, name="key")

File = Annotated[Path, typer.Argument(metavar="KEYS.yaml", help="File of hashed keys.")]


@key.command("new")
def new(
    name: Annotated[str, typer.Option(help="Whose key: a principal, who may have several.")],
    tenant: Annotated[str, typer.Option(help="On whose account; `*`: as x-tenant says.")] = "",
    models: Annotated[
        str, typer.Option(help="Patterns, comma-separated.", show_default="all")
    ] = "",
    roles: Annotated[
        str,
        typer.Option(
            help="Of infer, control, receipts, operator, comma-separated.", show_default="infer"
        ),
    ] = "",
    residency: Annotated[
        str, typer.Option(help="Jurisdictions, comma-separated.", show_default="any")
    ] = "",
    expires: Annotated[
        str, typer.Option(help="UTC, such as 2027-01-01T00:00Z.", show_default="never")
    ] = "",
    not_before: Annotated[str, typer.Option(help="UTC.", show_default="at once")] = "",
    file: Annotated[Path | None, typer.Option(help="Put it there as well.")] = None,
) -> None:
    """Make a key: print it, this once, and what a file holds of it."""
    from router.operator.keys import make_key

    principal: dict[str, Any] = {"name": name}
    if tenant:
        principal["tenant"] = tenant
    for field, text in (("models", models), ("roles", roles), ("residency", residency)):
        listed = [one.strip() for one in text.split(",") if one.strip()]
        if listed:
            principal[field] = listed
    made = make_key(
        principal, parse_utc(not_before, "--not-before"), parse_utc(expires, "--expires"), file
    )
    # The key alone on stdout, for a pipe into whatever keeps secrets.
    typer.echo(made.text)
    where = f"added to {file}:" if file is not None else "for `principals` of identity.keys_file:"
    typer.echo(f"{where}\n{made.entry}", err=True)


@key.command("ls")
def listing(file: File) -> None:
    """List the keys of a file."""
    from router.clock import WallClock
    from router.operator.keys import listed_keys
    from router.operator.show.keys import render_keys

    show(render_keys(listed_keys(file, WallClock().now())))


@key.command("revoke")
def revoke(
    file: File,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `key ls` shows it.")],
) -> None:
    """Take a key out of a file; gateways refuse it within seconds."""
    from router.operator.keys import revoke_key

    typer.echo(f"revoked a key of {revoke_key(file, key_id)}")
