"""What servers said of their models: kept by endpoint and address, and told when it changes."""

import logging
import math

import pytest

from router.app.stated_models import StatedModels
from router.contract import StatedModel
from tests.factories import endpoint, fleet, served

A = endpoint("a", "west", served(context_tokens=4096.0), served(name="free"))
UNSAID = StatedModel(None, math.nan)


@pytest.fixture
def models():
    return StatedModels()


def said(**contexts):
    return {name: StatedModel(True, tokens) for name, tokens in contexts.items()}


def test_what_was_said_is_of_the_address_that_said_it(models):
    models.take(A, said(llama=1024.0))
    assert models.of(A, "llama") == (True, 1024.0)
    assert models.contexts(fleet(A)) == {("a", "llama"): 1024.0}
    moved = endpoint("a", "west", served(), address="elsewhere:1")
    assert models.of(moved, "llama") == UNSAID
    assert models.contexts(fleet(moved)) == {}
    models.adopt(fleet(moved))
    assert models.of(A, "llama") == UNSAID


def test_the_version_rises_with_a_length_that_is_another_one_and_with_nothing_else(models):
    models.take(A, said(llama=1024.0))
    first = models.version
    assert first > 0
    models.take(A, said(llama=1024.0))
    models.take(A, {"llama": StatedModel(False, 1024.0)})
    assert models.version == first
    models.take(A, {})
    assert models.version > first
    assert models.contexts(fleet(A)) == {}


def test_each_change_has_one_line(models, caplog):
    caplog.set_level(logging.INFO)
    for contexts in (
        said(llama=1024.0, free=512.0), said(llama=1024.0, free=512.0),
        said(llama=8192.0, free=512.0), said(free=512.0), {},
    ):  # fmt: skip
        models.take(A, contexts)
    lines = [(one.levelname, one.model, one.getMessage()) for one in caplog.records]
    assert lines == [
        ("WARNING", "llama", "server has a shorter context than is configured: longer requests "
         "go elsewhere"),
        ("INFO", "free", "server says its context"),
        ("INFO", "llama", "server has as long a context as is configured again"),
        ("INFO", "llama", "server does not say its context any more"),
        ("INFO", "free", "server does not say its context any more"),
    ]  # fmt: skip
    assert (caplog.records[0].context_tokens, caplog.records[0].configured) == (1024, 4096)


def test_a_model_that_is_not_listed_is_told_when_it_goes_and_when_it_comes_back(models, caplog):
    caplog.set_level(logging.INFO)
    for listed in (True, False, False, None, False, True):
        models.take(A, {"llama": StatedModel(listed, math.nan)})
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "server does not list this model"),
        ("WARNING", "server does not list this model"),
        ("INFO", "server lists this model again"),
    ]
