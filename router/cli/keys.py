"""Commands about keys of callers: key new, ls, revoke, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import limit, parse_utc, show

if TYPE_CHECKING:
    from router.operator.key_places import KeysPlace

app = typer.Typer()
key = typer.Typer(help="Keys of callers: only their hashes are kept.", no_args_is_help=True)
app.add_typer(key, name="key")

# Every command takes the file either way, or a store.
GivenFile = Annotated[
    Path | None, typer.Argument(metavar="KEYS.yaml", help="File of hashed keys; or --file.")
]
NamedFile = Annotated[Path | None, typer.Option("--file", help="File of hashed keys.")]
NamedStore = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="CONFIG.yaml", help="The store of its `state.redis`, in place of a file."
    ),
]
WantedStore = Annotated[
    Path, typer.Option("--store", metavar="CONFIG.yaml", help="The store of its `state.redis`.")
]


@key.command("new")
def new(
    name: Annotated[str, typer.Option(help="Whose key: a principal, who may have several.")],
    given: GivenFile = None,
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
    origins: Annotated[
        str, typer.Option(help="What x-origin may be, comma-separated.", show_default="any")
    ] = "",
    requests_per_s: Annotated[float | None, limit("Requests, bursts of a second.")] = None,
    tokens_per_min: Annotated[float | None, limit("Of prompts and answers together.")] = None,
    max_concurrent: Annotated[int | None, limit("Requests at once.")] = None,
    weight: Annotated[
        float | None,
        typer.Option(help="Its share of places when they are scarce.", show_default="1"),
    ] = None,
    expires: Annotated[
        str, typer.Option(help="UTC, such as 2027-01-01T00:00Z.", show_default="never")
    ] = "",
    not_before: Annotated[str, typer.Option(help="UTC.", show_default="at once")] = "",
    named: NamedFile = None,
    store: NamedStore = None,
    first: Annotated[
        bool, typer.Option("--first", help="With --store: it has no keys, and lost none.")
    ] = False,
) -> None:
    """Make a key: print it, this once, and what is kept of it; put that into a file or a store.

    Who is named there already gets one more key: what it may is then left out.
    """
    from router.clock import WallClock
    from router.operator.keys import make_key

    place = _place(given, named, store, first)
    principal: dict[str, Any] = {"name": name}
    if tenant:
        principal["tenant"] = tenant
    for field, text in (
        ("models", models), ("roles", roles), ("residency", residency), ("origins", origins)
    ):  # fmt: skip
        listed = [one.strip() for one in text.split(",") if one.strip()]
        if listed:
            principal[field] = listed
    limits = {
        "requests_per_s": requests_per_s, "tokens_per_min": tokens_per_min,
        "max_concurrent": max_concurrent,
    }  # fmt: skip
    if any(value is not None for value in limits.values()):
        principal["limits"] = {key: value for key, value in limits.items() if value is not None}
    if weight is not None:
        principal["weight"] = weight
    until = parse_utc(expires, "--expires")
    if until is not None and until <= WallClock().now():
        raise typer.BadParameter("lies in the past", param_hint="--expires")
    made = make_key(principal, parse_utc(not_before, "--not-before"), until, place)
    # The key alone on stdout, for a pipe into whatever keeps secrets.
    typer.echo(made.text)
    where = "for `principals` of identity.keys_file"
    if place is not None:
        where = f"{'added to' if place.had_any else 'the first in'} {place.name}"
    typer.echo(f"{where}:\n{made.entry}", err=True)


@key.command("ls")
def listing(given: GivenFile = None, named: NamedFile = None, store: NamedStore = None) -> None:
    """List the keys of a file or a store, and what each may."""
    from router.clock import WallClock
    from router.operator.keys import listed_keys
    from router.operator.show.keys import render_keys

    show(render_keys(listed_keys(_needed(given, named, store), WallClock().now())))


@key.command("revoke")
def revoke(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[KEYS.yaml] ID", help="A file, or --file, --store; an id of `key ls`."
        ),
    ],
    named: NamedFile = None,
    store: NamedStore = None,
) -> None:
    """Take a key out of a file or a store; gateways refuse it within seconds."""
    from router.operator.keys import revoke_key

    *files, key_id = words
    if len(files) > 1:
        raise typer.BadParameter("give one file and one id", param_hint="KEYS.yaml ID")
    place = _needed(Path(files[0]) if files else None, named, store)
    typer.echo(f"revoked a key of {revoke_key(place, key_id)}")


@key.command("export")
def export(store: WantedStore) -> None:
    """Print the keys of a store as a file of keys: to keep a copy, or to go over to a file."""
    from router.operator.key_places import as_yaml, plain
    from router.operator.key_store import KeysInStore

    typer.echo(as_yaml(plain(KeysInStore(store).read())), nl=False)


@key.command("import")
def bring(given: Annotated[Path, typer.Argument(metavar="KEYS.yaml")], store: WantedStore) -> None:
    """Put all keys of a file into a store, in the place of those that are there."""
    from router.identity.keys_file import read_keys
    from router.operator.key_places import counted
    from router.operator.key_store import KeysInStore

    schema = read_keys(given)
    KeysInStore(store).replace(schema)
    typer.echo(f"{counted(schema)} are in the store, and no others")


def _place(
    given: Path | None, named: Path | None, store: Path | None, first: bool = False
) -> KeysPlace | None:
    """The file, as an argument or by --file, or the store; None where neither is said."""
    if sum(one is not None for one in (given, named, store)) > 1:
        raise typer.BadParameter("give one file, once, or one store", param_hint="--file, --store")
    if store is not None:
        from router.operator.key_store import KeysInStore

        stored = KeysInStore(store, first)
        if not stored.is_read:
            typer.echo(f"{store}: not read by its gateways: set identity.keys_in_store", err=True)
        return stored
    from router.operator.key_places import KeysInFile

    file = named if given is None else given
    return None if file is None else KeysInFile(file)


def _needed(given: Path | None, named: Path | None, store: Path | None) -> KeysPlace:
    place = _place(given, named, store)
    if place is None:
        raise typer.BadParameter("say which file of keys, or --store", param_hint="KEYS.yaml")
    return place
