"""Headers narrow what a principal may, and never widen it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import NotPermittedError
from router.identity.narrowing import (
    held,
    held_origin,
    held_residency,
    held_tenant,
    require_model,
    require_role,
    sequence_owner,
)
from router.identity.principal import ANONYMOUS, Principal, Role
from router.model import Request

# Jurisdictions, and the regions that lie in each as bits: DE and FR lie in EU.
REGIONS = {"EU": 0b011, "DE": 0b001, "FR": 0b010, "US": 0b100}
ANYWHERE = 0b111


def regions(names):
    mask = 0
    for name in names:
        mask |= REGIONS.get(name, 0)
    return mask if names else ANYWHERE


def principal(**may):
    return Principal("chat", **may)


def denied(what):
    return pytest.raises(NotPermittedError, match=f"^{what}")


def test_a_tenant_is_its_principals():
    acme = principal(tenant="acme")
    assert held_tenant(acme, "") == held_tenant(acme, "acme") == "acme"
    with denied("x-tenant: ") as told:
        held_tenant(acme, "rival")
    assert (told.value.what, told.value.principal) == ("x-tenant", "chat")
    with denied("x-tenant: "):
        held_tenant(acme, "*")


def test_who_has_no_tenant_speaks_for_none_and_a_trusted_proxy_for_any():
    with denied("x-tenant: "):
        held_tenant(principal(), "acme")
    assert held_tenant(principal(), "") == ""
    proxy = principal(tenant="*")
    assert [held_tenant(proxy, name) for name in ("", "acme", "rival")] == ["", "acme", "rival"]


def test_an_origin_is_one_of_those_granted_or_the_first():
    two = principal(origins=("a", "b"))
    assert [held_origin(two, name) for name in ("", "a", "b")] == ["a", "a", "b"]
    with denied("x-origin: "):
        held_origin(two, "c")
    assert held_origin(principal(), "c") == "c"


@pytest.mark.parametrize(
    ("granted", "asked", "held_to"),
    [
        ("", "", ""),
        ("", "US", "US"),
        ("EU", "", "EU"),
        ("EU", "EU", "EU"),
        ("EU", "DE", "DE"),
        ("EU", "DE FR", "DE FR"),
        ("DE FR", "EU", "EU"),
        ("EU US", "DE", "DE"),
        # Nowhere is no wider.
        ("EU", "MARS", "MARS"),
    ],
)
def test_residency_is_narrowed_by_regions_not_by_names(granted, asked, held_to):
    may = principal(residency=frozenset(granted.split()))
    assert held_residency(may, frozenset(asked.split()), regions) == frozenset(held_to.split())


@pytest.mark.parametrize(("granted", "asked"), [("EU", "US"), ("EU", "EU US"), ("DE", "EU")])
def test_wider_residency_is_refused(granted, asked):
    may = principal(residency=frozenset(granted.split()))
    with denied("x-residency: wider"):
        held_residency(may, frozenset(asked.split()), regions)
    with denied("inference_geo: wider"):
        held_residency(may, frozenset(asked.split()), regions, "inference_geo")


NAMES = st.frozensets(st.sampled_from([*REGIONS, "MARS"]), max_size=3)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_no_header_lets_a_request_run_where_its_principal_may_not(granted, asked):
    may = principal(residency=granted)
    allowed = regions(granted)
    try:
        got = regions(held_residency(may, asked, regions))
    except NotPermittedError:
        assert granted and regions(asked) & ~allowed
        return
    assert got & ~allowed == 0
    assert got & ~regions(asked) == 0


def test_sequences_are_of_an_account_and_of_the_tenant_that_is_named():
    owners = [
        sequence_owner(*whose)
        for whose in (
            (ANONYMOUS, ""),
            (ANONYMOUS, "acme"),
            (principal(tenant="acme"), "acme"),
            (principal(tenant="*"), "acme"),
            (principal(tenant="*"), ""),
            (Principal("other"), ""),
        )
    ]
    assert len(set(owners)) == len(owners)
    # Two keys of one tenant are one.
    mine, yours = Principal("a", tenant="acme"), Principal("b", tenant="acme")
    assert sequence_owner(mine, "acme") == sequence_owner(yours, "acme")


def test_models_and_roles_are_those_granted():
    chat = principal(models=("llama*",))
    require_model(chat, "llama-3")
    with denied("model: "):
        require_model(chat, "gpt")
    require_role(chat, Role.INFER)
    with pytest.raises(NotPermittedError, match="role 'control'") as told:
        require_role(chat, Role.CONTROL)
    assert told.value.what == "control"


def test_a_whole_request_is_held_to_it():
    chat = principal(tenant="acme", origins=("a",), residency=frozenset(("EU",)), models=("m",))
    asked = Request("m", residency=frozenset(("DE",)))
    got = held(chat, asked, regions)
    assert (got.tenant, got.origin, got.residency) == ("acme", "a", {"DE"})
    for changes in ({"model": "n"}, {"tenant": "b"}, {"origin": "b"}):
        with pytest.raises(NotPermittedError):
            held(chat, asked._replace(**changes), regions)
    assert got.sequence_owner == sequence_owner(chat, "acme")
    assert held(ANONYMOUS, asked, regions) == asked
    assert held(replace(chat, models=("*",)), asked, regions).model == "m"
