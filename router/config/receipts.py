"""``receipts`` of the file: by which key they are signed for whoever asks for one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from router.config.fields import PathText, Strict


class ReceiptSigningSchema(Strict):
    """Receipts that are asked for by their ids are signed (Ed25519, JWS). The files are watched:
    what replaces them is in force without a restart."""

    key_file: PathText = Field(
        description="PEM of an Ed25519 private key without a passphrase, of nothing else's use; "
        "relative to the configuration file"
    )
    old_key_files: list[PathText] = Field(
        default_factory=list,
        max_length=32,
        description="PEM of public keys that receipts were signed by before, or will be: published "
        "beside the one that signs",
    )
    issuer: str = Field(
        default="",
        max_length=256,
        description="who says so, in each signed receipt as `iss`, such as the gateway's URL; "
        "empty: left out",
    )


class ReceiptsSchema(Strict):
    """Receipts that are asked for."""

    sign: ReceiptSigningSchema | None = Field(default=None, description="left out: not signed")


class ReceiptSigning(NamedTuple):
    """``key``: file of the key that signs; ``old``: of public ones."""

    key: Path
    old: tuple[Path, ...] = ()
    issuer: str = ""


def receipt_signing(schema: ReceiptsSchema, folder: Path) -> ReceiptSigning | None:
    """None where receipts are not signed; ``folder``: of the configuration file."""
    sign = schema.sign
    if sign is None:
        return None
    old = tuple(folder / path for path in sign.old_key_files)
    return ReceiptSigning(folder / sign.key_file, old, sign.issuer)
