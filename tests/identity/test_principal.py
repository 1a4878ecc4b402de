"""Whoever calls, as a value."""

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.identity import GrantSchema
from router.identity.principal import ANONYMOUS, NOBODY, Principal, Role, principal_of


def test_nothing_is_granted_unasked_but_requests():
    plain = principal_of("a", GrantSchema(), "key a")
    assert plain.roles == {Role.INFER}
    assert plain.tenant == ""
    assert plain.may_use("anything")


def test_an_operator_has_every_role():
    operator = Principal("op", roles=frozenset((Role.OPERATOR,)))
    assert all(operator.has(role) for role in Role)
    assert not any(Principal("a").has(role) for role in (Role.CONTROL, Role.RECEIPTS))
    assert not any(NOBODY.has(role) for role in Role)
    assert all(ANONYMOUS.has(role) for role in Role)


@pytest.mark.parametrize(
    ("models", "yes", "no"),
    [
        (("llama-*",), "llama-3.1", "xllama-3"),
        (("a", "b"), "b", "ab"),
        (("org/*",), "org/a/b", "org"),
        (("*",), "", "-"),
    ],
)
def test_models_are_patterns(models, yes, no):
    held = Principal("a", models=models)
    assert held.may_use(yes)
    assert models == ("*",) or not held.may_use(no)


def test_nobody_may_use_any_model():
    assert not NOBODY.may_use("llama")


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="ab*?[]-.", min_size=1, max_size=6), min_size=1, max_size=4),
    st.text(alphabet="ab-.", max_size=6),
)
def test_patterns_are_fnmatchs(models, model):
    slow = any(fnmatch.fnmatchcase(model, one) for one in models)
    assert Principal("a", models=tuple(models)).may_use(model) == slow
