"""What the commands share: common arguments, times as text, tables on a terminal or in a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED = 1
WRONG = 2
_PIPE_COLUMNS = 200
_PICTURES: Final = (".png", ".svg", ".pdf")

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def picture(text: str) -> Any:
    """An option that names a picture to draw; refused before any work where none can be."""
    return typer.Option(help=f"{text} (.png, .svg or .pdf)", callback=_picture)


def _picture(path: Path | None) -> Path | None:
    if path is None:
        return None
    if path.suffix.lower() not in _PICTURES:
        raise typer.BadParameter(f"{path}: a picture's name ends in {', '.join(_PICTURES)}")
    if path.is_dir() or not path.parent.is_dir():
        fix = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise typer.BadParameter(f"{path}: {fix}; name a file in one that there is")
    return path


def limit(text: str) -> Any:
    """An option whose default is no limit."""
    return typer.Option(help=text, show_default="none")


def show(what: RenderableType) -> None:
    """Print a table."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        # Into a pipe or a file there is no edge to fit; 80 columns would cut the tables.
        console = Console(width=_PIPE_COLUMNS)
    console.print(what)


def parse_utc(text: str, option: str = "--at") -> float | None:
    """Unix seconds of a UTC time, None for empty text; a wrong one is the option's fault."""
    from router.config import parse_time

    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
