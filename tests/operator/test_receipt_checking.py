import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from router.errors import DataError
from router.gateway.openai.receipt_documents import ledger_document, receipt_document
from router.operator.receipt_checking import check_receipt
from router.trust.jws import key_id, signed
from router.trust.receipt_keys import RECEIPT_KIND
from router.units import grams
from tests.gateway.openai.test_receipt_documents import kept
from tests.gateway.support import receipt

KEY = Ed25519PrivateKey.generate()
KID = key_id(KEY.public_key())
KEYS = {KID: KEY.public_key()}


def sealed(document, kind=RECEIPT_KIND, **shown):
    """``document`` as a gateway signs it; ``shown``: what somebody changed beside it."""
    jws = signed(json.dumps(document).encode(), KEY, KID, kind)
    return json.dumps({**document, "jws": jws, **shown}).encode()


def whole():
    facility_j = 215.5 * 1.2 + 0.25
    return receipt_document(receipt(
        pue=1.2, network_j=0.25, facility_energy_j=facility_j, g_per_kwh=119.7,
        gco2e=grams(facility_j, 119.7), prompt_energy_j=20.0, energy_low_j=200.0,
        energy_high_j=300.0, tokens_low=150.0, tokens_high=260.0,
    ))  # fmt: skip


DOCUMENT = whole()


def test_a_receipt_of_memory_holds():
    told = check_receipt(sealed(DOCUMENT), KEYS)
    assert not told.failed and told.kid == KID and told.document == DOCUMENT
    assert len(told.held) == 7 and told.unknown == (
        "settled gco2e = facility_energy_j in kWh * settled g_per_kwh",
    )
    alone = signed(json.dumps(DOCUMENT).encode(), KEY, KID, RECEIPT_KIND).encode()
    assert not check_receipt(alone, KEYS).failed


def test_a_receipt_of_the_ledger_holds_with_what_it_was_settled_at():
    document = ledger_document(kept())
    document["gco2e"] = grams(document["facility_energy_j"], 36.0)
    document["energy_j_interval"] = "80-120"
    document["settled"] = {"g_per_kwh": 40.0, "gco2e": grams(document["facility_energy_j"], 40.0)}
    assert check_receipt(sealed(document), KEYS).failed == ()
    document["settled"]["gco2e"] *= 2
    (problem,) = check_receipt(sealed(document), KEYS).failed
    assert problem.startswith("settled gco2e")


def other_than(value):
    """JSON values that are not ``value``."""
    if isinstance(value, float | int):
        return st.floats(allow_nan=False, allow_infinity=False).filter(lambda one: one != value)
    return st.text(max_size=8).filter(lambda one: one != value) | st.none() | st.booleans()


@given(st.data())
def test_whatever_field_is_changed_is_named(data):
    key = data.draw(st.sampled_from(sorted(DOCUMENT)))
    body = sealed(DOCUMENT, **{key: data.draw(other_than(DOCUMENT[key]))})
    assert any(one.startswith(f"{key}: is not") for one in check_receipt(body, KEYS).failed)


@given(st.sampled_from(sorted(DOCUMENT)))
def test_whatever_field_is_taken_away_is_named(key):
    told = json.loads(sealed(DOCUMENT))
    del told[key]
    assert any(
        one.startswith(f"{key}: ") for one in check_receipt(json.dumps(told).encode(), KEYS).failed
    )


@given(st.text(min_size=1, max_size=8).filter(lambda one: one not in DOCUMENT and one != "jws"))
def test_whatever_field_is_added_is_named(key):
    assert check_receipt(sealed(DOCUMENT, **{key: 1}), KEYS).failed


@given(st.data())
def test_whatever_of_the_signature_is_changed_fails(data):
    told = json.loads(sealed(DOCUMENT))
    place = data.draw(st.integers(0, len(told["jws"]) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda one: one != told["jws"][place]))
    told["jws"] = told["jws"][:place] + other + told["jws"][place + 1 :]
    failed = check_receipt(json.dumps(told).encode(), KEYS).failed
    assert failed or told["jws"].strip() == json.loads(sealed(DOCUMENT))["jws"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"facility_energy_j": 300.0}, "facility_energy_j"), ({"gco2e": 0.01}, "gco2e"),
        ({"prompt_energy_j": 500.0}, "prompt_energy_j"), ({"prompt_energy_j": -1.0}, "prompt"),
        ({"energy_j_interval": "1-2"}, "energy_j lies"), ({"energy_j_interval": "x"}, "energy_j"),
        ({"output_tokens_interval": "1e-3-1e-2"}, "output_tokens"),
    ],
)  # fmt: skip
def test_figures_that_do_not_fit_are_named_though_they_were_signed(changes, what):
    told = check_receipt(sealed({**DOCUMENT, **changes}), KEYS)
    assert any(one.startswith(what) for one in told.failed), told


def test_a_figure_that_no_float_holds_is_none():
    told = check_receipt(sealed({**DOCUMENT, "gco2e": 10**400}), KEYS)
    assert any(one.startswith("gco2e = ") for one in told.unknown)


def test_what_is_nested_beyond_reason_is_refused():
    for depth, refused in ((15, False), (16, True), (900, True)):
        body = sealed(DOCUMENT)[:-1] + b', "more": ' + b"[" * depth + b"]" * depth + b"}"
        if refused:
            with pytest.raises(DataError, match="nested"):
                check_receipt(body, KEYS)
        else:
            assert check_receipt(body, KEYS).failed == ("more: is not what was signed",)


def test_another_key_or_another_kind_of_document_fails():
    other = Ed25519PrivateKey.generate()
    (problem,) = check_receipt(sealed(DOCUMENT), {key_id(other.public_key()): other.public_key()})[
        3
    ]
    assert "not among the keys" in problem
    (problem,) = check_receipt(sealed(DOCUMENT), {KID: other.public_key()}).failed
    assert "signature" in problem
    assert "JWT" in check_receipt(sealed(DOCUMENT, "JWT"), KEYS).failed[0]


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"jws": 5}', b"{", b"[" * 99_999, b'{"jws": "a", "jws": "a"}', b" " * (2**20 + 1),
     b'{"jws": "a", "gco2e": NaN}'],
)  # fmt: skip
def test_what_is_no_signed_receipt_is_refused(body):
    with pytest.raises(DataError):
        check_receipt(b"{" + body[1:] if body[:1] == b"[" else body, KEYS)


@given(st.binary(max_size=60))
def test_whatever_bytes_there_are_are_answered(body):
    try:
        assert check_receipt(body, KEYS).failed
    except DataError:
        return
