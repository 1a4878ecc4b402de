"""tools/licences.py: what distributions state, held to closed lists."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def licences() -> Any:
    import licences

    return licences


def stated(licences: Any, name: str, licence: str, classifiers: tuple[str, ...] = ()) -> Any:
    return licences.Stated(name, "1.0", licence, classifiers, ())


def test_the_page_has_what_is_locked_and_all_of_it_is_allowed(licences: Any) -> None:
    page = licences.recorded(licences.PAGE.read_text(encoding="utf-8"))
    pins, lists = licences.locked(), licences.rules()
    assert licences.differences(pins, licences.here(), page, lists) == []
    assert licences.refused(page.values(), lists) == []


def test_every_licence_that_is_allowed_says_why_and_is_there(licences: Any) -> None:
    lists = licences.rules()
    assert all(len(why) > 8 for why in (*lists.allowed.values(), *lists.allowed_in_extras.values()))
    rows = licences.recorded(licences.PAGE.read_text(encoding="utf-8"))
    used = " ".join(row.licence for row in rows.values())
    assert all(name in used for name in (*lists.allowed, *lists.allowed_in_extras))
    names = {name for name, _ in licences.locked()}
    assert lists.read.keys() <= names


@pytest.mark.parametrize(
    ("licence", "classifiers", "means"),
    [
        ("MIT", (), "MIT"),
        ("mit", (), "MIT"),
        ("Apache 2.0", (), "Apache-2.0"),
        ("", ("MIT License",), "MIT"),
        ("MIT OR Apache-2.0", ("MIT License", "BSD License"), "MIT OR Apache-2.0"),
        ("Apache-2.0 WITH LLVM-exception", (), "Apache-2.0 WITH LLVM-exception"),
    ],
)
def test_metadata_is_read(
    licences: Any, licence: str, classifiers: tuple[str, ...], means: str
) -> None:
    read = licences.spdx(stated(licences, "some", licence, classifiers), licences.rules())
    assert read == means


@pytest.mark.parametrize(
    ("licence", "classifiers"),
    [("", ()), ("BSD", ()), ("", ("MIT License", "BSD License")), ("see LICENSE", ()), ("(", ())],
)
def test_metadata_that_says_nothing_clear_is_no_licence(
    licences: Any, licence: str, classifiers: tuple[str, ...]
) -> None:
    with pytest.raises(licences.UnclearLicence, match="some"):
        licences.spdx(stated(licences, "some", licence, classifiers), licences.rules())


@pytest.mark.parametrize(
    ("expression", "held"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR ISC)", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_an_expression_is_held_to_the_list(licences: Any, expression: str, held: bool) -> None:
    assert licences.permits(expression, {"MIT", "ISC", "Apache-2.0"}) is held


def test_the_product_may_have_less_than_an_extra(licences: Any) -> None:
    row = licences.Row("some", "1.0", "MPL-2.0", ("sim",))
    assert licences.refused([row], licences.rules()) == []
    (problem,) = licences.refused([row._replace(needed_by=("product",))], licences.rules())
    assert "MPL-2.0 is not allowed" in problem


def test_what_changed_since_the_page_was_made_is_told(licences: Any) -> None:
    page = {
        ("here", "1.0"): licences.Row("here", "1.0", "MIT", ("sim",)),
        ("gone", "1.0"): licences.Row("gone", "1.0", "MIT", ("sim",)),
    }
    known = {("here", "1.0"): stated(licences, "here", "ISC")}
    pins = [("here", "1.0"), ("new", "2.0")]
    assert licences.differences(pins, known, page, licences.rules()) == [
        "here 1.0: ISC, on the page MIT",
        "new 2.0: the page does not have it",
        "gone 1.0: is locked no more",
    ]


def test_who_brings_what_counts_every_platform_and_extra(licences: Any) -> None:
    known = [
        licences.Stated("a", "1", "", (), ("b; sys_platform == 'win32'", "c; extra == 'more'")),
        licences.Stated("c", "1", "", (), ("a[more]", "D_d; python_version < '3.12'")),
    ]
    assert licences.closure(["a"], known) == {"a", "b"}
    assert licences.closure(["a[more]"], known) == {"a", "b", "c", "d-d"}
    assert licences.closure(["e; python_version < '3.9'"], known) == set()
