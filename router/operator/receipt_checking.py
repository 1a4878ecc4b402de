"""Whether a receipt is what its gateway signed, and whether its figures fit each other.

Nothing is asked of anybody: a document, and a file of public keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from router.errors import DataError
from router.trust.jws import verified
from router.trust.receipt_keys import RECEIPT_KIND
from router.units import J_PER_KWH

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_MOST_BYTES: Final = 2**20
# Of objects and lists in each other: a receipt has two.
_MOST_LEVELS: Final = 16
# Figures are told with six digits; a product of three may be off by thrice that.
_RELATIVE: Final = 2e-5
# And grams of the ledger are of 2^-24 g.
_LEAST_G: Final = 2.0**-24
_LEAST_J: Final = 2.0**-19
_JWS: Final = "jws"


class ReceiptCheck(NamedTuple):
    """``document``: what was signed; ``kid``: by which key; ``held``: what was checked and holds,
    ``failed``: what does not, in words; ``unknown``: what the receipt does not tell enough for."""

    document: Mapping[str, Any]
    kid: str
    held: tuple[str, ...]
    failed: tuple[str, ...]
    unknown: tuple[str, ...]


def check_receipt(body: bytes, keys: Mapping[str, Ed25519PublicKey]) -> ReceiptCheck:
    """``body``: a document with its ``jws``, or a JWS alone; ``keys``: by their ids.

    Raises DataError for what is neither.
    """
    shown, jws = _parts(body)
    held: list[str] = []
    failed: list[str] = []
    document: dict[str, Any] = {}
    kid = ""
    try:
        found = verified(jws, keys)
    except DataError as error:
        failed.append(f"signature: {error}")
        document = {key: value for key, value in (shown or {}).items() if key != _JWS}
    else:
        kid, document = found.kid, _object(found.payload)
        held.append(f"signature: by the key {kid}")
        if found.kind != RECEIPT_KIND:
            failed.append(f"signature: of a {found.kind[:64]!r}, not of a {RECEIPT_KIND}")
        if shown is not None:
            _compare(shown, document, held, failed)
    unknown: list[str] = []
    for name, problem in _figures(document):
        if problem is None:
            unknown.append(name)
        elif problem:
            failed.append(f"{name}: {problem}")
        else:
            held.append(name)
    return ReceiptCheck(document, kid, tuple(held), tuple(failed), tuple(unknown))


def _parts(body: bytes) -> tuple[dict[str, Any] | None, str]:
    """The document that is shown, None where there is a JWS alone, and that."""
    if len(body) > _MOST_BYTES:
        raise DataError("more than 1 MiB are no receipt")
    text = body.decode(errors="replace").strip()
    if not text.startswith("{"):
        return None, text
    shown = _object(text.encode())
    jws = shown.get(_JWS)
    if not isinstance(jws, str):
        raise DataError(f"the receipt has no {_JWS!r}: it is not signed")
    return shown, jws


def _object(body: bytes) -> dict[str, Any]:
    """Raises DataError for what is no JSON object, is nested deeply, or says something twice."""
    try:
        found = json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a receipt: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise DataError("not a receipt: no JSON object")
    if not _is_within(found, _MOST_LEVELS):
        raise DataError(f"not a receipt: nested more than {_MOST_LEVELS} levels deep")
    return found


def _is_within(value: Any, levels: int) -> bool:
    """Whether ``value`` has no more than so many levels, itself one of them."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_within(one, levels - 1) for one in inner)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Readers differ in which of the two they take.
        raise ValueError("a key is there twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _compare(
    shown: Mapping[str, Any], signed: Mapping[str, Any], held: list[str], failed: list[str]
) -> None:
    """What is shown beside the signature is what was signed; the issuer is in that alone."""
    missing = object()
    differing = sorted(
        key
        for key in {*shown, *signed} - {_JWS, "iss"}
        if _exact(shown.get(key, missing)) != _exact(signed.get(key, missing))
    )
    if "iss" in shown and shown["iss"] != signed.get("iss"):
        differing.append("iss")
    failed += [f"{key[:64]}: is not what was signed" for key in differing]
    if not differing:
        held.append("document: every field as it was signed")


def _exact(value: Any) -> Any:
    """1 is not True, and 1.0 is 1: as JSON has it."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: _exact(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_exact(one) for one in value]
    return value


def _figures(told: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """(what was checked, what is wrong with it: "" nothing, None where it cannot be told)."""
    settled = told.get("settled")
    prices = settled if isinstance(settled, dict) else {}
    facility_j = _number(told, "facility_energy_j")
    energy_j = _number(told, "energy_j")
    return [
        (
            "facility_energy_j = energy_j * pue + network_j",
            _equal(
                facility_j,
                _of(lambda a, b, c: a * b + c, energy_j, *_numbers(told, "pue", "network_j")),
                _LEAST_J,
            ),
        ),
        (
            "gco2e = facility_energy_j in kWh * mean_g_per_kwh",
            _equal(
                _number(told, "gco2e"),
                _of(_grams, facility_j, _number(told, "mean_g_per_kwh")),
                _LEAST_G,
            ),
        ),
        (
            "settled gco2e = facility_energy_j in kWh * settled g_per_kwh",
            _equal(
                _number(prices, "gco2e"),
                _of(_grams, facility_j, _number(prices, "g_per_kwh")),
                _LEAST_G,
            ),
        ),
        ("prompt_energy_j is a part of energy_j", _within(told, "prompt_energy_j", energy_j)),
        ("energy_j lies in its interval", _inside(told, "energy_j_interval", energy_j)),
        (
            "output_tokens lie in their interval",
            _inside(told, "output_tokens_interval", _number(told, "output_tokens")),
        ),
    ]


def _grams(facility_j: float, g_per_kwh: float) -> float:
    return facility_j / J_PER_KWH * g_per_kwh


def _number(told: Mapping[str, Any], key: str) -> float | None:
    value = told.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        figure = float(value)
    except OverflowError:
        # Of hundreds of digits.
        return None
    return figure if math.isfinite(figure) else None


def _numbers(told: Mapping[str, Any], *keys: str) -> list[float | None]:
    return [_number(told, key) for key in keys]


def _of(formula: Callable[..., float], *values: float | None) -> float | None:
    return None if any(value is None for value in values) else formula(*values)


def _equal(said: float | None, reckoned: float | None, least: float) -> str | None:
    if said is None or reckoned is None:
        return None
    if math.isclose(said, reckoned, rel_tol=_RELATIVE, abs_tol=least):
        return ""
    return f"{said:g} is said, {reckoned:g} comes of the parts"


def _within(told: Mapping[str, Any], key: str, whole: float | None) -> str | None:
    part = _number(told, key)
    if part is None or whole is None:
        return None
    return "" if 0.0 <= part <= whole * (1.0 + _RELATIVE) else f"{part:g} of {whole:g}"


def _inside(told: Mapping[str, Any], key: str, value: float | None) -> str | None:
    """An interval is LOW-HIGH, neither below 0."""
    text = told.get(key)
    if not isinstance(text, str) or value is None:
        return None
    low, sign, high = text.replace("e-", "e~").partition("-")
    try:
        ends = float(low.replace("~", "-")), float(high.replace("~", "-"))
    except ValueError:
        return f"{text[:64]!r} is no interval" if sign or text else None
    loose = _RELATIVE * max(abs(value), abs(ends[1]))
    return "" if ends[0] - loose <= value <= ends[1] + loose else f"{value:g} is not in {text}"
